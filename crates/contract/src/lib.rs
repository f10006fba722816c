//! What all parts agree on: the vote and its rejections, the election, records and their partitions, and the truth.
//!
//! 1. An [`election`] says who may be voted for, where and when.
//! 2. A [`vote`] is a JSON message. It is rejected for one of the [`Reason`](vote::Reason)s, or counts.
//! 3. It travels as the value of a [`record`], in the partition that the [`partitioner`] gives its voter.
//! 4. The [`truth`] is what a count of generated votes must come to.

pub mod election;
pub mod partitioner;
pub mod record;
pub mod truth;
pub mod vote;
