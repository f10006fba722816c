//! Finds PostgreSQL's server programs on this machine, and tells the user how to install them if there are none.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{PostgresError, Result, clean_command};

/// The oldest major version that supports our tables and settings.
const MAJOR_MIN: u32 = 14;

#[derive(Clone, Debug)]
pub(super) struct Installation {
    folder: PathBuf,
    pub version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub major: u32,
    minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Installation {
    pub fn binary(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// The newest installation, restricted to one major version if given.
pub(super) fn newest(major: Option<u32>) -> Result<Installation> {
    let mut found = installations();
    found.sort_by_key(|installation| std::cmp::Reverse(installation.version));
    let wanted = |installation: &&Installation| match major {
        Some(major) => installation.version.major == major,
        None => installation.version.major >= MAJOR_MIN,
    };
    match found.iter().find(wanted) {
        Some(installation) => Ok(installation.clone()),
        None => Err(PostgresError::NotInstalled(not_installed(major, &found))),
    }
}

fn not_installed(major: Option<u32>, found: &[Installation]) -> String {
    let versions: Vec<String> = found.iter().map(|installation| installation.version.to_string()).collect();
    let found = if versions.is_empty() { "no version".into() } else { versions.join(", ") };
    match major {
        Some(major) => format!(
            "the data was written by PostgreSQL {major}, which is not installed (found: {found}); \
             install version {major}, start over with --fresh, or name a server in DATABASE_URL"
        ),
        None => format!(
            "no PostgreSQL server of version {MAJOR_MIN} or newer is installed (found: {found}); \
             install it with `{}`, or name a server in DATABASE_URL",
            install_command()
        ),
    }
}

fn install_command() -> String {
    let sudo = if nix::unistd::geteuid().is_root() { "" } else { "sudo " };
    let known = [
        ("brew", "brew install postgresql@17".to_owned()),
        ("apt-get", format!("{sudo}apt-get install -y postgresql")),
        ("dnf", format!("{sudo}dnf install -y postgresql-server")),
        ("apk", format!("{sudo}apk add postgresql")),
        ("pacman", format!("{sudo}pacman -S --noconfirm postgresql")),
        ("zypper", format!("{sudo}zypper install -y postgresql-server")),
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let command = known.into_iter().find(|(name, _)| there(name)).map(|(_, command)| command);
    command.unwrap_or_else(|| "your package manager, package postgresql".into())
}

fn installations() -> Vec<Installation> {
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output()
        && output.status.success()
    {
        folders.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    // Debian, Fedora, PGDG's packages, Homebrew on ARM and Intel Macs, Postgres.app.
    for (parent, prefix, rest) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr/libexec", "postgresql", ""),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ] {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                folders.push(entry.path().join(rest));
            }
        }
    }
    let mut seen = HashSet::new();
    let real = folders.into_iter().filter_map(|folder| folder.canonicalize().ok());
    real.filter(|folder| seen.insert(folder.clone())).filter_map(|folder| installation(&folder)).collect()
}

/// The installation in a folder, if it has a server that runs.
fn installation(folder: &Path) -> Option<Installation> {
    let server = folder.join("postgres");
    if !server.is_file() || !folder.join("initdb").is_file() {
        return None;
    }
    let output = clean_command(&server).arg("--version").output().ok()?;
    let version = parse_version(&String::from_utf8_lossy(&output.stdout))?;
    Some(Installation { folder: folder.to_owned(), version })
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`; a beta (`17beta1`) counts as minor 0.
fn parse_version(text: &str) -> Option<Version> {
    let word = text.split("(PostgreSQL)").nth(1)?.split_whitespace().next()?;
    let mut numbers = word.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = if word.contains('.') { numbers.next()?.parse().ok()? } else { 0 };
    Some(Version { major, minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions_and_orders_them() {
        let version = |text: &str| parse_version(text).map(|version| (version.major, version.minor));
        assert_eq!(version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some((15, 18)));
        assert_eq!(version("postgres (PostgreSQL) 9.6.24\n"), Some((9, 6)));
        assert_eq!(version("postgres (PostgreSQL) 18beta1\n"), Some((18, 0)));
        assert_eq!(version("something else 15.1"), None);
        assert!(Version { major: 17, minor: 2 } > Version { major: 16, minor: 10 });
        assert!(Version { major: 16, minor: 10 } > Version { major: 16, minor: 9 });
    }

    #[test]
    fn the_error_names_found_versions_and_a_fix() {
        let old = Installation { folder: "/old".into(), version: Version { major: 13, minor: 2 } };
        let text = not_installed(None, std::slice::from_ref(&old));
        assert!(text.contains("found: 13.2") && text.contains("install it with `"), "{text}");
        let text = not_installed(Some(16), &[old]);
        assert!(text.contains("PostgreSQL 16") && text.contains("DATABASE_URL"), "{text}");
    }
}
