//! The real program, run as users run it: processes, files, signals, exit codes and messages.
//!
//! The tests block while the program runs, so their other work, such as sessions that must be closed, needs its own
//! threads.

mod apart; // one process per command, sharing a data folder
mod demo; // stopped, resumed, refused, restarted from scratch
mod deployed; // what the containers need: logins, password files, a persistent election, health
mod files; // third-party result tables, checked before they are counted; unknown figures
mod hostile; // what other parties must not see, read, block or forge
mod kept; // nothing existing is overwritten: elections, counts of other logs, votes after a position set back
mod real; // real results and real ballots come out as they went in
mod refused; // errors say what is wrong, where, and what to do, with the right exit code
mod settings; // flag before environment before file before default; the help
mod setup; // what a machine lacks is named, and installed after a yes
