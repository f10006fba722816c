-- The partition that a voter's id belongs to: murmur2 as in Kafka's default partitioner, for the 36 characters of a
-- UUID in canonical form. 32-bit numbers are kept in a BIGINT, since overflow is an error in ANSI SQL.
CREATE OR REPLACE TEMPORARY FUNCTION partition_of(voter STRING, partitions INT) RETURNS BIGINT
RETURN aggregate(
    sequence(1, 33, 4),
    -- The seed xor the length.
    (2538058380 ^ 36),
    (hash, at) -> (hash * 1540483477L & 4294967295) ^ aggregate(
        array(ascii(substr(voter, at, 1))
            + shiftleft(ascii(substr(voter, at + 1, 1)), 8)
            + shiftleft(ascii(substr(voter, at + 2, 1)), 16)
            + shiftleft(ascii(substr(voter, at + 3, 1)), 24)),
        0L,
        (_, word) -> word * 1540483477L & 4294967295,
        word -> (word ^ shiftright(word, 24)) * 1540483477L & 4294967295),
    hash -> aggregate(
        array((hash ^ shiftright(hash, 13)) * 1540483477L & 4294967295),
        0L,
        (_, mixed) -> mixed,
        mixed -> (mixed ^ shiftright(mixed, 15)) & 2147483647)) % partitions
