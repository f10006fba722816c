//! What Scrutin promises, on a real PostgreSQL. Each test has a database of its own.

mod kit; // the private server, a fresh database a test
mod parser; // the fast parser against serde
mod store; // migrations, roles and their walls, elections, the private server's life
mod kit; // one private server a test process, one fresh database a test
mod postgres; // the private server's life: made, killed, adopted, shared, stopped
mod store; // migrations, roles and their walls, elections
