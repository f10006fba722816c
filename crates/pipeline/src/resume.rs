//! Rebuilds the engine's state of a partition from the tables, so that a restart continues seamlessly.

use scrutin_contract::vote::Reason;
use scrutin_engine::{Partition, PollBook, Rules};
use scrutin_store::StoreError;
use scrutin_store::poll_book::{self, StoredPollBook};
use tokio_postgres::Client;

/// `next_offset` is the position in the partition, `seed` the poll books' seed.
///
/// # Errors
/// If the tables cannot be read, or name a voter twice.
pub(super) async fn partition(
    client: &Client,
    counter: &str,
    rules: &Rules,
    partition: u32,
    next_offset: u64,
    seed: [u64; 2],
) -> Result<Partition, StoreError> {
    let mut rejected_records = [0; Reason::ALL.len()];
    for (reason, kept) in poll_book::rejected_records(client, counter, partition).await? {
        rejected_records[reason as usize] = kept;
    }
    let mut poll_books = Vec::with_capacity(rules.elections.len());
    for election in &rules.elections {
        let stored = StoredPollBook { counter, election: &election.id, partition };
        poll_books.push(read_poll_book(client, &stored, seed).await?);
    }
    Ok(Partition { partition, next_offset, rejected_records, poll_books })
}

async fn read_poll_book(client: &Client, stored: &StoredPollBook<'_>, seed: [u64; 2]) -> Result<PollBook, StoreError> {
    let voters = stored.len(client).await?;
    let mut poll_book = PollBook::new(seed);
    poll_book.reserve(voters as usize);
    stored.read(client, |voters| poll_book.insert_all(voters)).await?;
    if poll_book.len() as u64 != voters {
        return Err(StoreError::Unusable(format!(
            "the poll book of partition {} of counter `{}` names a voter twice; \
             the database has been changed by hand: restore it, or count again under another counter name",
            stored.partition, stored.counter
        )));
    }
    Ok(poll_book)
}
