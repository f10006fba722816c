//! Files and folders for a single user of the machine: other users can neither read them nor hold their locks.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Options to open a file for reading and writing; a file created with them is private.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Opens a lock file, creating it if necessary. Closes a file that an earlier version left open to other users.
///
/// # Errors
///
/// If the file cannot be opened, or its permissions cannot be changed.
pub fn lock_file(path: &Path) -> io::Result<File> {
    let file = options().create(true).truncate(false).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Creates a private folder, and any missing parents.
///
/// # Errors
///
/// If a folder cannot be created.
pub fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a folder private if everyone can access it. A folder that is open only to its group is left as it is.
///
/// # Errors
///
/// If the permissions cannot be read or changed.
pub fn close_folder(path: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o007 == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
}
