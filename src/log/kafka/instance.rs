//! The name that a process keeps in its group over a restart, which Kafka calls `group.instance.id`.
//!
//! A member that is killed is missed only when its session ends, and until then its partitions are nobody's. One that
//! comes back by the same name has them again at once.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Two processes never have the same one: its file is locked for as long as the value lives.
#[derive(Debug)]
pub struct InstanceId {
    id: String,
    _lock: File,
}

impl InstanceId {
    /// The first name in the folder, as `kafka-instance-0`, that no other process has; a new one if there is none. The
    /// folder is made if need be.
    pub fn keep(data_dir: &Path) -> io::Result<InstanceId> {
        std::fs::create_dir_all(data_dir)?;
        let mut slot = 0;
        loop {
            let path = data_dir.join(format!("kafka-instance-{slot}"));
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
            match file.try_lock() {
                Ok(()) => return Ok(InstanceId { id: id_in(&mut file)?, _lock: file }),
                Err(TryLockError::WouldBlock) => slot += 1,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    pub fn as_str(&self) -> &str {
        &self.id
    }
}

/// What the file holds; written anew if a crash has left it without.
fn id_in(file: &mut File) -> io::Result<String> {
    let mut id = String::new();
    file.read_to_string(&mut id)?;
    if id.len() == 40 && id.starts_with("scrutin-") {
        return Ok(id);
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random)?;
    let id = format!("scrutin-{}", random.map(|byte| format!("{byte:02x}")).concat());
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(id.as_bytes())?;
    file.sync_all()?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_and_is_of_one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("made");
        let keep = || InstanceId::keep(&data_dir).unwrap();
        let (first, second) = (keep(), keep());
        let ids = (first.as_str().to_owned(), second.as_str().to_owned());
        assert_ne!(ids.0, ids.1);
        drop((first, second));
        let (first, second) = (keep(), keep());
        assert_eq!(ids, (first.as_str().to_owned(), second.as_str().to_owned()));
    }

    #[test]
    fn a_name_that_is_damaged_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        for damaged in ["", "scrutin-12", "a longer name than any that was written here ever"] {
            std::fs::write(folder.path().join("kafka-instance-0"), damaged).unwrap();
            let id = InstanceId::keep(folder.path()).unwrap().as_str().to_owned();
            assert_eq!(id.len(), 40, "{id}");
            assert_eq!(InstanceId::keep(folder.path()).unwrap().as_str(), id);
        }
    }
}
