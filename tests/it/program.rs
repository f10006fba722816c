//! The real program, run as a user runs it: processes, files, signals, exit codes and words.
//!
//! The tests block while the program works, so what else they hold, sessions that end among it, needs threads of its own.

mod apart; // one process a command, on one data folder
mod demo; // stopped, gone on with, refused, started over
mod deployed; // what the containers need: logins, passwords in files, an election that stays, health
mod files; // tables of others, looked at before they are counted; unknown figures
mod hostile; // what others must not see, read, block or forge
mod kept; // what is there stays: elections, counts of other logs, votes behind a mark set back
mod real; // real results and real ballots come out as they went in
mod refused; // what is wrong is said, with where and what to do, and the exit code
mod settings;
mod setup; // what a machine lacks is named, and installed after a yes // flag before environment before file before default; the help
