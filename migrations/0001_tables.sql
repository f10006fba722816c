-- What the count keeps. Every counter (native, spark, any name) has its own rows; nobody's rows
-- depend on another's. Dashboards read none of this: they read the views of 0002.

CREATE TABLE election (
    election       text PRIMARY KEY,
    title          text NOT NULL,
    opens_at       timestamptz NOT NULL,
    closes_at      timestamptz NOT NULL CHECK (closes_at > opens_at),
    time_zone      text NOT NULL,
    channels       text[] NOT NULL CHECK (cardinality(channels) > 0),
    bucket_seconds integer NOT NULL CHECK (bucket_seconds > 0),
    -- BLAKE3 of the whole definition: an election that is being counted cannot change under the count.
    fingerprint    text NOT NULL,
    loaded_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE region (
    election   text NOT NULL REFERENCES election ON DELETE CASCADE,
    region     text NOT NULL,
    name       text NOT NULL,
    registered bigint NOT NULL CHECK (registered >= 0),
    lat        double precision,
    lon        double precision,
    grid_col   integer,
    grid_row   integer,
    place      integer NOT NULL, -- order in regions.csv
    PRIMARY KEY (election, region)
);

CREATE TABLE choice (
    election text NOT NULL REFERENCES election ON DELETE CASCADE,
    choice   text NOT NULL,
    region   text NOT NULL DEFAULT '', -- '' stands everywhere
    name     text NOT NULL,
    color    text NOT NULL,
    place    integer NOT NULL, -- order in choices.csv
    PRIMARY KEY (election, choice, region)
);

-- Which elections a counter counts. Fixed at its first commit: votes refused as unknown_election
-- would otherwise have been counted by a later start, and no recount could tell which was right.
CREATE TABLE counter (
    counter    text PRIMARY KEY,
    elections  text[] NOT NULL,
    log        text NOT NULL, -- which log, whatever its address: positions mean nothing in another
    partitions integer NOT NULL CHECK (partitions > 0),
    started_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE position (
    counter      text NOT NULL,
    partition    integer NOT NULL,
    first_offset bigint NOT NULL,
    next_offset  bigint NOT NULL,
    gaps         bigint NOT NULL DEFAULT 0, -- offsets without a record
    counted      bigint NOT NULL DEFAULT 0,
    rejected     bigint NOT NULL DEFAULT 0,
    end_offset   bigint NOT NULL,           -- end of the log as this counter last saw it
    taken        bigint NOT NULL DEFAULT 0, -- how often a process has taken the partition; only the last one commits
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (counter, partition),
    -- The first promise, held by the database at every commit.
    CONSTRAINT every_vote_counted_or_refused
        CHECK (next_offset - first_offset - gaps = counted + rejected)
);

CREATE TABLE tally (
    counter  text NOT NULL,
    election text NOT NULL,
    region   text NOT NULL,
    choice   text NOT NULL,
    channel  text NOT NULL,
    votes    bigint NOT NULL CHECK (votes >= 0),
    PRIMARY KEY (counter, election, region, choice, channel)
) WITH (fillfactor = 70);

CREATE TABLE timeline (
    counter  text NOT NULL,
    election text NOT NULL,
    bucket   timestamptz NOT NULL, -- start of the bucket of cast_at
    region   text NOT NULL,
    choice   text NOT NULL,
    votes    bigint NOT NULL CHECK (votes >= 0),
    PRIMARY KEY (counter, election, bucket, region, choice)
) WITH (fillfactor = 80);

CREATE TABLE rejection (
    counter text NOT NULL,
    reason  text NOT NULL,
    bucket  timestamptz NOT NULL, -- start of the bucket of append time
    votes   bigint NOT NULL CHECK (votes >= 0),
    PRIMARY KEY (counter, reason, bucket)
);

-- Evidence: the first records refused for each reason in each partition. Counts stay exact beyond the cap.
CREATE TABLE rejected_vote (
    counter     text NOT NULL,
    partition   integer NOT NULL,
    "offset"    bigint NOT NULL,
    reason      text NOT NULL,
    appended_at timestamptz NOT NULL,
    key         bytea, -- the first 4 KiB
    value       bytea, -- the first 4 KiB
    value_bytes bigint, -- length of the whole value; null for a null value
    PRIMARY KEY (counter, partition, "offset")
);

-- The 16-byte ids of those who have voted, packed. A chunk is named by the offset that its commit reached.
CREATE TABLE roll (
    counter   text NOT NULL,
    election  text NOT NULL,
    partition integer NOT NULL,
    chunk     bigint NOT NULL,
    ids       bytea NOT NULL CHECK (length(ids) % 16 = 0),
    PRIMARY KEY (counter, election, partition, chunk)
);
-- Random ids do not compress.
ALTER TABLE roll ALTER COLUMN ids SET STORAGE EXTERNAL;

CREATE TABLE batch (
    counter        text NOT NULL,
    committed_at   timestamptz NOT NULL,
    received       bigint NOT NULL,
    counted        bigint NOT NULL,
    rejected       bigint NOT NULL,
    lag            bigint NOT NULL, -- votes in the log not yet counted
    latency_ms_p50 double precision, -- append to visible
    latency_ms_p99 double precision
);
CREATE INDEX batch_by_time ON batch (counter, committed_at);

CREATE TABLE audit (
    counter     text NOT NULL,
    audited_at  timestamptz NOT NULL DEFAULT now(),
    recounted   bigint NOT NULL, -- records read again from the log
    differences bigint NOT NULL,
    summary     text NOT NULL
);
CREATE INDEX audit_by_time ON audit (counter, audited_at);
