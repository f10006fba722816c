//! Files and folders for one user of the machine: others can neither read them nor hold their locks.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// How to open a file that is made private if it is made; for reading and writing.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// A file to be locked, made if need be. One that an earlier version left open to others is closed to them.
pub fn lock_file(path: &Path) -> io::Result<File> {
    let file = options().create(true).truncate(false).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Makes a folder, and those above it that are missing.
pub fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Closes a folder to all but its user and, where somebody has let it in, its group.
pub fn close_folder(path: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o007 == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
}
