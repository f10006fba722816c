//! Errors from Spark, each as one sentence.

use std::error::Error as _;
use std::fmt;

use prost::Message as _;
use tonic::{Code, Status};

use super::proto::{ErrorInfo, FetchErrorDetailsResponse, RpcStatus};

#[derive(Debug, thiserror::Error)]
pub enum SparkError {
    /// Spark cannot be used as requested; the text says why.
    #[error("{0}")]
    Unusable(String),
    #[error("cannot reach Spark at {server} ({cause}); check whether its Spark Connect server is running")]
    Unreachable { server: String, cause: String },
    #[error(
        "Spark at {server} did not answer within {seconds} s when asked to {action}; check whether it is overloaded \
         or hangs"
    )]
    Silent { server: String, seconds: u64, action: &'static str },
    #[error("Spark at {server} denied access ({cause}); check the token")]
    Denied { server: String, cause: String },
    /// The session was released, or the server was restarted. Its queries are stopped; open a new session to continue.
    #[error("the session with Spark at {server} was lost ({cause})")]
    SessionLost { server: String, cause: String },
    /// Spark reported an error.
    #[error("Spark could not {action}: {failure}")]
    Failed { action: &'static str, failure: Box<Failure> },
    /// A response that this client does not understand.
    #[error("Spark at {server} sent an unexpected response when asked to {action}: {what}")]
    Strange { server: String, action: &'static str, what: String },
}

impl SparkError {
    /// Spark's error class, such as `PARSE_SYNTAX_ERROR`, if Spark reported the error.
    pub fn class(&self) -> Option<&str> {
        match self {
            SparkError::Failed { failure, .. } => failure.class.as_deref(),
            _ => None,
        }
    }

    /// Whether a retry with a new session may succeed.
    pub fn is_passing(&self) -> bool {
        matches!(self, SparkError::Unreachable { .. } | SparkError::Silent { .. } | SparkError::SessionLost { .. })
    }
}

/// An error as Spark reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Error class, possibly with a subclass: `TABLE_OR_VIEW_NOT_FOUND`, `INVALID_HANDLE.SESSION_CLOSED`.
    pub class: Option<String>,
    pub sql_state: Option<String>,
    /// One sentence, including the innermost cause.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.class {
            Some(class) => write!(f, " [{class}]"),
            None => Ok(()),
        }
    }
}

impl Failure {
    /// Parses Spark's message: `[CLASS] What is wrong. SQLSTATE: 42601 (line 1, pos 0)`, followed by the query, a plan
    /// or a stack trace.
    pub(super) fn of_text(text: &str) -> Failure {
        // The message of a failed streaming query begins with a lengthy description of the query.
        let text = text.split_once("terminated with exception: ").map_or(text, |(_, cause)| cause);
        let (class, text) = class_and_rest(text);
        let (message, sql_state) = match text.split_once("SQLSTATE: ") {
            Some((before, after)) => {
                let (state, rest) = after.split_at_checked(5).unwrap_or((after, ""));
                // The place in the query.
                let place = rest.lines().next().unwrap_or_default().trim_matches([' ', ';', '(', ')']);
                let place = if place.starts_with("line ") { format!(" ({place})") } else { String::new() };
                (format!("{}{place}", sentence(before)), Some(state.to_owned()))
            }
            None => (sentence(text), None),
        };
        Failure { class: class.map(str::to_owned), sql_state, message }
    }

    /// Builds a failure from the details that the server keeps of an error.
    pub(super) fn of_details(details: &FetchErrorDetailsResponse) -> Option<Failure> {
        let at = |index: Option<i32>| details.errors.get(usize::try_from(index?).ok()?);
        let root = at(details.root_error_idx)?;
        let mut failure = Failure::of_text(&root.message);
        if let Some(throwable) = &root.spark_throwable {
            failure.class = failure.class.or_else(|| throwable.error_class.clone());
            failure.sql_state = failure.sql_state.or_else(|| throwable.sql_state.clone());
        }
        let mut last = root;
        // The bound guards against a cycle of causes.
        for _ in 0..details.errors.len() {
            last = at(last.cause_idx).unwrap_or(last);
        }
        let cause = Failure::of_text(&last.message).message;
        if !cause.is_empty() && !failure.message.contains(&cause) {
            failure.message = format!("{}: {cause}", failure.message);
        }
        Some(failure)
    }
}

/// Splits off the leading class in brackets, which may follow the name of a Java exception.
fn class_and_rest(text: &str) -> (Option<&str>, &str) {
    let is_exception = |name: &str| name.ends_with("Exception") && !name.contains(char::is_whitespace);
    let text = match text.split_once(": [") {
        Some((name, _)) if is_exception(name) => &text[name.len() + 2..],
        _ => text,
    };
    let is_class = |class: &&str| {
        !class.is_empty() && class.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "_.".contains(c))
    };
    let found = text.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match found.filter(|(class, _)| is_class(class)) {
        Some((class, rest)) => (Some(class), rest),
        None => (None, text),
    }
}

/// The text before the first empty line, heading or stack trace, as one line.
fn sentence(text: &str) -> String {
    const CHARS_MAX: usize = 600;
    let is_more = |line: &&str| {
        line.is_empty() || line.starts_with("==") || line.starts_with("at ") || *line == "JVM stacktrace:"
    };
    let lines: Vec<&str> = text.trim().lines().map(str::trim).take_while(|line| !is_more(line)).collect();
    let words: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
    let mut all = words.join(" ");
    if let Some((end, _)) = all.char_indices().nth(CHARS_MAX) {
        all.truncate(end);
        all.push('…');
    }
    all.trim_end_matches(['.', ',', ';', ':', ' ']).to_owned()
}

/// The error class in a gRPC status from Spark.
pub(super) fn class_of(status: &Status) -> Option<String> {
    let said = info_of(status).and_then(|info| info.metadata.get("errorClass").cloned());
    said.or_else(|| class_and_rest(status.message()).0.map(str::to_owned))
}

/// The metadata of an error: its class, and the id to fetch its details.
pub(super) fn info_of(status: &Status) -> Option<ErrorInfo> {
    let details = RpcStatus::decode(status.details()).ok()?.details;
    let info = details.iter().find(|any| any.type_url.ends_with("/google.rpc.ErrorInfo"))?;
    ErrorInfo::decode(info.value.as_slice()).ok()
}

/// Whether the connection failed, so that repeating the request may succeed.
pub(super) fn is_of_connection(status: &Status) -> bool {
    status.code() == Code::Unavailable || (status.details().is_empty() && status.source().is_some())
}

/// The innermost cause of a connection error.
pub(super) fn innermost(status: &Status) -> String {
    let mut source = status.source();
    let mut text = status.message().to_owned();
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{ErrorDetails, SparkThrowable};

    #[test]
    fn messages_become_one_sentence() {
        let read = |text: &str| Failure::of_text(text);
        let syntax = read(
            "\n[PARSE_SYNTAX_ERROR] Syntax error at or near 'SELEC'. SQLSTATE: 42601 (line 1, pos 0)\n\n== SQL ==\nSELEC 1\n^^^\n",
        );
        assert_eq!(syntax.to_string(), "Syntax error at or near 'SELEC' (line 1, pos 0) [PARSE_SYNTAX_ERROR]");
        assert_eq!(syntax.sql_state.as_deref(), Some("42601"));
        let table = read(
            "[TABLE_OR_VIEW_NOT_FOUND] The table `x` cannot be found.\nTo tolerate it use\n IF EXISTS. SQLSTATE: 42P01; line 1 pos 14;\n'Project [*]\n+- x",
        );
        assert_eq!(table.message, "The table `x` cannot be found. To tolerate it use IF EXISTS (line 1 pos 14)");
        let query = read(
            "[STREAM_FAILED] Query [id = a, runId = b] terminated with exception: [DIVIDE_BY_ZERO] Division by zero. SQLSTATE: 22012\n== SQL ==\n1/0 SQLSTATE: XXKST",
        );
        assert_eq!(query.to_string(), "Division by zero [DIVIDE_BY_ZERO]");
        let java = read("java.lang.IllegalStateException: no way\n\tat org.apache.Spark(Spark.scala:1)");
        assert_eq!(java, Failure { message: "java.lang.IllegalStateException: no way".into(), ..Default::default() });
        let both = read("org.apache.spark.SomeException: [DIVIDE_BY_ZERO] Division by zero.");
        assert_eq!(both.to_string(), "Division by zero [DIVIDE_BY_ZERO]");
        assert_eq!(read("").message, "");
        assert_eq!(read("[x] y SQLSTATE: 1é").message, "[x] y");
        assert_eq!(read(&"é".repeat(700)).message.chars().count(), 601);
    }

    #[test]
    fn the_innermost_cause_is_included() {
        let error = |message: &str, cause_idx: Option<i32>, class: Option<&str>| ErrorDetails {
            message: message.into(),
            cause_idx,
            spark_throwable: class.map(|class| SparkThrowable { error_class: Some(class.into()), sql_state: None }),
        };
        let errors =
            vec![error("Outer.", Some(1), Some("OUTER")), error("Middle", Some(2), None), error("Inner", None, None)];
        let mut details = FetchErrorDetailsResponse { root_error_idx: Some(0), errors };
        assert_eq!(Failure::of_details(&details).unwrap().to_string(), "Outer: Inner [OUTER]");
        details.errors[2].cause_idx = Some(0);
        assert!(Failure::of_details(&details).is_some(), "a cycle ends");
        details.root_error_idx = Some(9);
        assert_eq!(Failure::of_details(&details), None);
    }
}
