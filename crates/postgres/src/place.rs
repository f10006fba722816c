//! The cluster's location and the account its server runs under.
//!
//! PostgreSQL refuses to run as root. If we are root, it runs as `postgres` or another unprivileged account. If that
//! account cannot access the data folder, the cluster goes under `/var/lib/scrutin`, and the data folder records where.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{PORT, PostgresError, Result, clean_command, io, remove_if_there};

/// The longest Unix socket path that every system accepts (macOS has the lowest limit).
const SOCKET_PATH_BYTES_MAX: usize = 103;

const ELSEWHERE: &str = "/var/lib/scrutin";

/// An account other than ours that the server runs under.
#[derive(Clone, Debug)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The cluster itself.
    pub folder: PathBuf,
    account: Option<Account>,
}

/// The cluster's folder, if there is one.
pub(super) fn existing(data_dir: &Path) -> Result<Option<PathBuf>> {
    let note = data_dir.join("postgres.place");
    let folder = match std::fs::read_to_string(&note) {
        Ok(text) => PathBuf::from(text.trim_end_matches('\n')),
        Err(error) if error.kind() == ErrorKind::NotFound => data_dir.join("postgres"),
        Err(error) => return Err(io("read", &note)(error)),
    };
    Ok(folder.exists().then_some(folder))
}

/// Deletes a cluster without a running server, and its socket folder.
pub(super) fn remove(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder).map_err(io("delete", folder))?;
    let socket_dir = short_socket_dir(folder);
    match std::fs::remove_dir_all(&socket_dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io("delete", &socket_dir)(error)),
        _ => Ok(()),
    }
}

fn short_socket_dir(folder: &Path) -> PathBuf {
    let digest = blake3::hash(folder.as_os_str().as_bytes()).to_hex();
    PathBuf::from(format!("/tmp/scrutin-{}", &digest[..16]))
}

impl Place {
    /// The place of a data folder's cluster: where it is, or where to create it.
    pub fn find(data_dir: &Path) -> Result<Place> {
        let root = nix::unistd::geteuid().is_root();
        if let Some(folder) = existing(data_dir)? {
            // The server runs under the account that created the cluster.
            let found = std::fs::metadata(&folder).map_err(io("read", &folder))?;
            let account = (root && found.uid() != 0).then(|| Account { uid: found.uid(), gid: found.gid() });
            let place = Place { folder, account };
            if place.is_made() {
                return Ok(place);
            }
            // The folder is either empty, and can be replaced, or holds something else.
            std::fs::remove_dir(&place.folder).map_err(io("use a folder that is not PostgreSQL's:", &place.folder))?;
        }
        let folder = data_dir.join("postgres");
        if !root {
            return Ok(Place { folder, account: None });
        }
        let place = Place { folder, account: Some(unprivileged()?) };
        let new = place.prepare_new()?;
        let shell = Path::new("/bin/sh");
        let mut command = place.command(shell);
        command.args(["-c", "cd \"$0\" && : > t && rm t"]).arg(&new);
        let reached = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let reached = reached.map_err(io("run", shell))?;
        std::fs::remove_dir_all(&new).map_err(io("delete", &new))?;
        let note = data_dir.join("postgres.place");
        if reached.success() {
            // An interrupted start may have recorded a place elsewhere.
            remove_if_there(&note)?;
            return Ok(place);
        }
        let digest = blake3::hash(data_dir.as_os_str().as_bytes()).to_hex();
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o755).create(ELSEWHERE).map_err(io("create", Path::new(ELSEWHERE)))?;
        // A folder of that name may belong to a data folder that has since moved.
        let names = (1..).map(|n| if n == 1 { digest[..16].to_owned() } else { format!("{}-{n}", &digest[..16]) });
        let mut folders = names.map(|name| Path::new(ELSEWHERE).join(name));
        let folder = folders.find(|folder| !folder.exists()).expect("the names are endless");
        let mut text = folder.as_os_str().as_bytes().to_owned();
        text.push(b'\n');
        std::fs::write(&note, text).map_err(io("write", &note))?;
        tracing::warn!(
            folder = %folder.display(),
            "the account that PostgreSQL runs under cannot access {}; the cluster is kept elsewhere",
            data_dir.display()
        );
        Ok(Place { folder, account: place.account })
    }

    pub fn is_made(&self) -> bool {
        self.folder.join("PG_VERSION").exists()
    }

    /// The major version that created the cluster.
    pub fn major(&self) -> Result<u32> {
        let path = self.folder.join("PG_VERSION");
        let text = std::fs::read_to_string(&path).map_err(io("read", &path))?;
        let major = text.trim().split('.').next().and_then(|major| major.parse().ok());
        major.ok_or_else(|| {
            PostgresError::Unusable(format!("{} holds `{}`, expected a version", path.display(), text.trim()))
        })
    }

    /// A command that runs under the server's account.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = clean_command(program);
        if let Some(account) = &self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    /// Creates an empty folder, owned by the server's account, that will become the cluster's.
    pub fn prepare_new(&self) -> Result<PathBuf> {
        let new = self.folder.with_extension("new");
        match std::fs::remove_dir_all(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io("delete", &new)(error)),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(&new).map_err(io("create", &new))?;
        self.give(&new)?;
        Ok(new)
    }

    pub fn finish_new(&self, new: &Path) -> Result<()> {
        std::fs::rename(new, &self.folder).map_err(io("create", &self.folder))
    }

    /// Creates a file that only the server's account can read. The caller deletes it.
    pub fn temporary_file(&self, text: &str) -> Result<PathBuf> {
        let name = self.folder.with_extension("init").file_name().map(|name| name.to_owned()).unwrap_or_default();
        let digest = blake3::hash(text.as_bytes()).to_hex();
        let path = std::env::temp_dir().join(format!("{}-{}", name.to_string_lossy(), &digest[..16]));
        let _ = std::fs::remove_file(&path);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = file.map_err(io("create", &path))?;
        file.write_all(text.as_bytes()).map_err(io("write", &path))?;
        self.give(&path)?;
        Ok(path)
    }

    /// The socket's folder: the cluster's own if the path is short enough, otherwise one under /tmp.
    pub fn socket_dir(&self) -> Result<PathBuf> {
        let name = format!("/.s.PGSQL.{PORT}");
        if self.folder.as_os_str().len() + name.len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(self.folder.clone());
        }
        let short = short_socket_dir(&self.folder);
        match DirBuilder::new().mode(0o700).create(&short) {
            Ok(()) => self.give(&short)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io("create", &short)(error)),
        }
        // Everyone can write to /tmp: the owner of another user's folder could impersonate the server.
        let found = std::fs::symlink_metadata(&short).map_err(io("read", &short))?;
        let owner = self.account.as_ref().map_or(nix::unistd::geteuid().as_raw(), |account| account.uid);
        if !found.is_dir() || found.uid() != owner {
            return Err(PostgresError::Unusable(format!(
                "{} is not a folder of the account that PostgreSQL runs under (user id {owner}); delete it",
                short.display()
            )));
        }
        std::fs::set_permissions(&short, Permissions::from_mode(0o700)).map_err(io("set the mode of", &short))?;
        Ok(short)
    }

    fn give(&self, path: &Path) -> Result<()> {
        match &self.account {
            Some(account) => chown(path, Some(account.uid), Some(account.gid)).map_err(io("change the owner of", path)),
            None => Ok(()),
        }
    }
}

fn unprivileged() -> Result<Account> {
    for name in ["postgres", "_postgres", "nobody"] {
        if let Ok(Some(user)) = nix::unistd::User::from_name(name)
            && !user.uid.is_root()
        {
            return Ok(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() });
        }
    }
    Err(PostgresError::Unusable(
        "PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody`; \
         run as another user, or name a server in DATABASE_URL"
            .into(),
    ))
}

/// The command line of the process with this pid, if there is one.
pub(super) fn command_line(pid: i32) -> Option<String> {
    if Path::new("/proc/self/cmdline").exists() {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        return Some(String::from_utf8_lossy(&line).replace('\0', " "));
    }
    let output = Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
