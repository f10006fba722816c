-- Renames tables, columns and views to the terms used in the field. From here on, views only grow.
--
-- The electoral roll lists who may vote. The poll book records who has voted.

ALTER TABLE roll RENAME TO poll_book;
ALTER INDEX roll_pkey RENAME TO poll_book_pkey;
ALTER TABLE poll_book RENAME CONSTRAINT roll_ids_check TO poll_book_ids_check;
ALTER VIEW roll_size RENAME TO poll_book_size;

-- The epoch is a fencing token: it shuts out the process that counted the partition before.
ALTER TABLE position RENAME COLUMN taken TO epoch;
ALTER VIEW lag RENAME COLUMN taken TO epoch;

ALTER TABLE position RENAME CONSTRAINT every_vote_counted_or_refused TO every_vote_counted_or_rejected;
ALTER VIEW refusals RENAME TO rejections;
ALTER VIEW refusals_over_time RENAME TO rejections_over_time;
ALTER VIEW accounting RENAME COLUMN refused TO rejected_by_reason;
ALTER VIEW agreement RENAME COLUMN refusals_apart TO rejections_apart;
ALTER VIEW comparison RENAME COLUMN refusals_apart TO rejections_apart;
ALTER VIEW quick_comparison RENAME COLUMN refusals_apart TO rejections_apart;
ALTER VIEW health RENAME COLUMN refused_share TO rejected_share;
