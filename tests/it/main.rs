//! What Scrutin promises, on a real PostgreSQL. Each test has a database of its own.

#![allow(clippy::unwrap_used, reason = "a test may say shortly that something has to work")]

mod answer; // the answer to a commit is lost while the server is still at work on it
mod architecture; // the walls between the modules
mod audit; // the audit finds every kind of tampering, and nothing where there is none
mod broker; // real Kafka brokers, to be killed and paused, and the test of that
mod browser; // the page in a real browser: live figures, languages, keyboard, accessibility
mod clock; // a wall clock to be shifted while a program runs
mod commit_protocol; // the commit protocol in every order of crashes, cuts, lost answers and takeovers
mod crash; // the program killed at every step and at random, and the truth all the same
mod deploy; // the dashboards, alerts and containers of `docker compose up`
mod disk; // a disk that loses what was not synced to it
mod documents; // links, and the README in both languages
mod faults; // every error of PostgreSQL's that passes, and a panic in a worker
mod kafka; // the log on Kafka: topics, groups, transactions, TLS, outages, and other people's clients
mod kafka_crash; // counting from Kafka: everything killed, frozen and cut off, and the truth all the same
mod kit; // one private server a test process, one fresh database a test
mod outage; // PostgreSQL away, or cutting connections
mod page; // the page: figures, what is pushed, what others may do, what is said while PostgreSQL is away
mod parser; // the fast parser against serde
mod pooler; // a real pgbouncer in between
mod postgres; // the private server's life: made, killed, adopted, shared, stopped
mod program; // what a user does: every command, bad input, stops and restarts, real results and ballots
mod proxy; // a TCP connection in between, to be cut
mod run; // runs the program as a user does
mod schema; // the published schema of a vote against the parser
mod spark; // the client of Spark Connect, on a real Spark
mod spark_count; // Spark counts the same votes as the native engine
mod spark_job; // the count in SQL against the native one, record by record
mod spark_server; // a real Spark, to be killed and paused
mod standby; // a PostgreSQL that streams another's changes and takes over from it
mod store; // migrations, roles and their walls, elections
mod sums; // the sums that triggers maintain, after every kind of statement
mod turns; // what takes much of the machine is done by few tests at a time
mod views; // what the views cost where there are many regions
mod walls; // what each role may do in the database, and what nobody may
mod watch; // what the dashboards show of PostgreSQL itself, and what is expected
mod witness; // the end of the log, recorded even when no counter runs
