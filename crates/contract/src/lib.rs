//! The contract between all parts: votes and their rejections, elections, records and their partitions, and the truth.
//!
//! 1. An [`election`] defines who can be voted for, where and when.
//! 2. A [`vote`] is a JSON message. It is counted, or rejected for one of the [`Reason`](vote::Reason)s.
//! 3. It travels as the value of a [`record`], in the partition that the [`partitioner`] assigns to its voter.
//! 4. The [`truth`] is what a count of generated votes must come to.

pub mod election;
pub mod partitioner;
pub mod record;
pub mod truth;
pub mod vote;
