//! A log in a folder on this machine.

/// A log in a folder on this machine.
pub struct EmbeddedLog;
