-- Kafka's default partitioner hashes keys by murmur2. These functions do so for the 36 characters of a UUID, from the
-- UUID's two halves as numbers. 32-bit numbers are kept in a BIGINT, since overflow is an error in ANSI SQL. Plain
-- arithmetic becomes generated code; a function over a list would not.

-- The multiplier is 0x5bd1e995.
CREATE OR REPLACE TEMPORARY FUNCTION times_m(x BIGINT) RETURNS BIGINT
RETURN x * 1540483477 & 4294967295;

-- The hash after four more characters.
CREATE OR REPLACE TEMPORARY FUNCTION hashed(hash BIGINT, characters BIGINT) RETURNS BIGINT
RETURN times_m(hash) ^ times_m(times_m(characters) ^ shiftright(times_m(characters), 24));

-- The four digits of a hexadecimal number, the first in the lowest byte.
CREATE OR REPLACE TEMPORARY FUNCTION digits(number BIGINT) RETURNS BIGINT
RETURN shiftright(number, 12) & 15 | number & 3840 | shiftleft(number & 240, 12) | shiftleft(number & 15, 24);

-- The ASCII characters of four such digits: 0 to 9 are 48 to 57, and a to f, which are 39 further, 97 to 102. The
-- constants have the same in each byte: 0x30, 0x06 and 0x01.
CREATE OR REPLACE TEMPORARY FUNCTION characters(digits BIGINT) RETURNS BIGINT
RETURN (digits | 808464432) + 39 * (shiftright(digits + 101058054, 4) & 16843009);
