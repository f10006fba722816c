//! The store: one PostgreSQL database, in which tallies, rejections, the poll book and the positions commit together.
//!
//! This module handles addresses, sessions and their roles. The pipeline decides what counters write.

pub mod agreement;
pub mod commit;
mod copy;
pub mod counters;
pub mod elections;
mod error;
pub mod log_end;
pub mod migrate;
pub mod poll_book;
mod pooler;
pub mod positions;
pub mod results;
mod rights;
pub mod rows;
mod time;
pub mod totals;

use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

pub use error::{CommitError, StoreError};

/// The schema that holds all of Scrutin's objects.
pub const SCHEMA: &str = "scrutin";

const CONNECT_SECONDS: u64 = 5;
/// Opening a session takes a few more round trips than connecting.
const SESSION_SECONDS: u64 = 15;

/// What a session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything, as the user in the address: migrations and set-up.
    Owner,
    /// Writes the counting tables.
    Counter,
    /// Only reads the views and the elections.
    Reader,
    /// Only records a log's end offsets.
    Witness,
    /// Reads everything that is counted and records audit results.
    Auditor,
}

impl Role {
    /// The roles that set-up creates.
    const MADE: [Role; 4] = [Role::Counter, Role::Reader, Role::Witness, Role::Auditor];

    /// The role's name in PostgreSQL; none for the owner, who is the user in the address.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Role::Owner => None,
            Role::Counter => Some("scrutin_counter"),
            Role::Reader => Some("scrutin_reader"),
            Role::Witness => Some("scrutin_witness"),
            Role::Auditor => Some("scrutin_auditor"),
        }
    }

    /// The settings of the role's sessions. A session can change them; security rests on the grants alone.
    pub(crate) const fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // Migrations may take long, so override any timeout that the database sets.
            Role::Owner => &[("search_path", SCHEMA), ("client_min_messages", "warning"), ("statement_timeout", "0")],
            // The timeouts end a session that holds locks, so that one stuck counter does not block the others.
            Role::Counter => &[
                ("search_path", SCHEMA),
                ("client_min_messages", "warning"),
                ("idle_in_transaction_session_timeout", "30s"),
                ("lock_timeout", "10s"),
                // Overrides a limit set on the database, which would cancel every longer commit.
                ("statement_timeout", "0"),
                // After waiting for its turn, a commit must see what was committed in the meantime.
                ("default_transaction_isolation", "read committed"),
                // A custom plan would copy the parameters, which are most of the work here.
                ("plan_cache_mode", "force_generic_plan"),
            ],
            Role::Auditor => &[("search_path", SCHEMA), ("client_min_messages", "warning"), ("statement_timeout", "0")],
            Role::Witness => &[
                ("search_path", SCHEMA),
                ("client_min_messages", "warning"),
                ("statement_timeout", "5s"),
                ("idle_in_transaction_session_timeout", "5s"),
                ("lock_timeout", "2s"),
            ],
            Role::Reader => &[
                ("search_path", SCHEMA),
                ("client_min_messages", "warning"),
                ("default_transaction_read_only", "on"),
                // The planner overestimates the cost of the views: compiling them takes longer than running them.
                ("jit", "off"),
                ("statement_timeout", "10s"),
                ("idle_in_transaction_session_timeout", "30s"),
                ("lock_timeout", "5s"),
            ],
        }
    }

    fn session(self) -> String {
        let mut sql = String::new();
        if let Some(name) = self.name() {
            sql.push_str(&format!("SET ROLE {name};"));
        }
        for (setting, value) in self.settings() {
            sql.push_str(&format!("SET {setting} TO '{value}';"));
        }
        sql
    }
}

/// The address of a database. Holds no connection.
#[derive(Clone)]
pub struct Database {
    config: Config,
}

impl Database {
    /// Parses a `DATABASE_URL`: either `postgresql://user:password@host:port/name` or `key=value` pairs.
    ///
    /// # Errors
    ///
    /// If the address is invalid, names no host, or requires TLS.
    pub fn parse(url: &str) -> Result<Database, StoreError> {
        const FORM: &str = "expected postgresql://user:password@host:port/name; in user and password, percent-encode \
                            all characters but letters and digits: @ is %40";
        if has_raw_characters(url) {
            return Err(StoreError::Url(format!("invalid database address; {FORM}")));
        }
        let config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            // The invalid part may be a piece of the password, so only errors about known options are shown.
            let what = match why.strip_prefix("invalid value for option") {
                Some(option) if option.contains("sslmode") => {
                    format!(" ({why}; TLS is not supported, use sslmode=prefer or disable)")
                }
                Some(_) => format!(" ({why})"),
                None => String::new(),
            };
            StoreError::Url(format!("invalid database address{what}; {FORM}"))
        })?;
        if matches!(config.get_ssl_mode(), SslMode::Require) {
            return Err(StoreError::Url(
                "the database address requires TLS (sslmode=require), which is not supported; \
                 use sslmode=prefer or disable, on a trusted network"
                    .into(),
            ));
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(StoreError::Url(format!("the database address names no host; {FORM}")));
        }
        Ok(Database::of(config))
    }

    /// A database from a client configuration.
    pub fn of(mut config: Config) -> Database {
        if config.get_application_name().is_none() {
            config.application_name("scrutin");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(CONNECT_SECONDS));
        }
        // Detects a vanished server within a minute.
        config.keepalives(true).keepalives_idle(Duration::from_secs(15));
        config.keepalives_interval(Duration::from_secs(5)).keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(30));
        Database { config }
    }

    /// Sets the password.
    pub fn with_password(mut self, password: &str) -> Database {
        self.config.password(password);
        self
    }

    /// The name for messages, `host:port/name`, without user and password.
    pub fn name(&self) -> String {
        match self.config.get_dbname() {
            Some(name) => format!("{}/{name}", self.server()),
            None => self.server(),
        }
    }

    fn server(&self) -> String {
        let ports = self.config.get_ports();
        let port = |place: usize| ports.get(place).or(ports.first()).copied().unwrap_or(5432);
        let hosts = self.config.get_hosts().iter().enumerate().map(|(place, host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(place)),
            #[cfg(unix)]
            Host::Unix(path) => format!("{}:{}", path.display(), port(place)),
        });
        let mut names: Vec<String> = hosts.collect();
        if names.is_empty() {
            let addresses = self.config.get_hostaddrs().iter().enumerate();
            names.extend(addresses.map(|(place, address)| format!("{address}:{}", port(place))));
        }
        names.join(",")
    }

    /// Opens a session, which ends when the client is dropped. Needs a Tokio runtime.
    ///
    /// # Errors
    ///
    /// If the server is unreachable, does not respond in time or rejects the session, or if the database is not set up.
    pub async fn connect(&self, role: Role) -> Result<Client, StoreError> {
        let wait = Duration::from_secs(SESSION_SECONDS);
        match tokio::time::timeout(wait, self.open(role)).await {
            Ok(opened) => opened,
            Err(_) => Err(StoreError::Silent { server: self.server(), seconds: SESSION_SECONDS }),
        }
    }

    async fn open(&self, role: Role) -> Result<Client, StoreError> {
        let unreachable = |source| StoreError::Unreachable { server: self.server(), source };
        let (client, connection) = self.config.connect(NoTls).await.map_err(unreachable)?;
        tokio::spawn(async move {
            // Users of the client get their own error.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        loop {
            match client.batch_execute(&role.session()).await {
                Ok(()) => return Ok(client),
                // On a busy machine, a short statement_timeout of the database can cancel the SET that lifts it.
                Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {}
                Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => {
                    return Err(StoreError::Unusable(format!(
                        "the database {} has not been set up; run `scrutin setup` as its owner first",
                        self.name()
                    )));
                }
                Err(source) => return Err(StoreError::Query { action: "open a session", source }),
            }
        }
    }
}

/// Whether the password contains an unescaped delimiter, so that its rest would be parsed as a host or parameter.
fn has_raw_characters(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    authority.matches('@').count() != rest.matches('@').count() || authority.matches('@').count() > 1
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_error(url: &str) -> String {
        Database::parse(url).map(|database| database.name()).expect_err(url).to_string()
    }

    #[test]
    fn names_show_no_password() {
        for (url, name) in [
            ("postgresql://me:secret@db.example:6432/votes", "db.example:6432/votes"),
            ("postgres://me:secret@db.example/votes", "db.example:5432/votes"),
            ("host=/run/pg user=me password=secret dbname=votes", "/run/pg:5432/votes"),
            ("postgresql://me:secret@a:1,b:2/votes", "a:1,b:2/votes"),
        ] {
            let database = Database::parse(url).expect(url);
            assert_eq!(database.name(), name);
            assert!(!format!("{database:?}").contains("secret"));
        }
    }

    #[test]
    fn a_bad_address_is_refused_with_a_reason() {
        for (url, words) in [
            ("postgresql://me:secret@db/votes?sslmode=require", "TLS"),
            ("postgresql://me:secret@db/votes?sslmode=verify-full", "TLS"),
            ("postgresql://me:secret@db:port/votes", "expected postgresql://"),
            ("postgresql://me:my@secret@db/votes", "percent-encode"),
            ("postgresql://me:my/secret@db/votes", "percent-encode"),
            ("postgresql://me:my?secret@db/votes", "percent-encode"),
            ("host=db password=my secret=votes", "percent-encode"),
            ("mysql://me:secret@db/votes", "expected postgresql://"),
            ("dbname=votes password=secret", "names no host"),
        ] {
            let text = parse_error(url);
            assert!(text.contains(words), "{url}: {text}");
            assert!(!text.contains("secret"), "{url}: {text}");
        }
    }

    #[tokio::test]
    async fn an_absent_server_is_a_transient_error() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        drop(socket);
        let database = Database::parse(&format!("postgresql://me:secret@127.0.0.1:{port}/votes")).unwrap();
        let error = database.connect(Role::Owner).await.expect_err("nothing listens");
        assert!(error.is_transient());
        let text = error.to_string();
        let start = format!("cannot reach PostgreSQL at 127.0.0.1:{port} (connection refused); ");
        assert!(text.starts_with(&start), "{text}");
    }
}
