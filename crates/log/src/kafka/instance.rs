//! The name that a process keeps in its group over a restart, which Kafka calls `group.instance.id`.
//!
//! A member that is killed is missed only when its session ends, and until then its partitions are nobody's. One that
//! comes back by the same name has them again at once.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Two processes never have the same one, unless a data folder was copied: its file is locked for as long as the value
/// lives.
#[derive(Debug)]
pub struct InstanceId {
    id: Mutex<String>,
    file: File,
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
                Ok(()) => return Ok(InstanceId { id: Mutex::new(id_in(&mut file)?), file }),
                Err(TryLockError::WouldBlock) => slot += 1,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    pub fn get(&self) -> String {
        self.id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another one, which nobody has had before, instead of one that somebody else has too.
    pub fn renew(&self) -> io::Result<String> {
        let id = write_new(&self.file)?;
        self.id.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&id);
        Ok(id)
    }
}

/// What the file holds; written anew if a crash has left it without.
fn id_in(file: &mut File) -> io::Result<String> {
    let mut id = String::new();
    file.read_to_string(&mut id)?;
    if id.len() == 40 && id.starts_with("scrutin-") {
        return Ok(id);
    }
    write_new(file)
}

fn write_new(mut file: &File) -> io::Result<String> {
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
        let ids = (first.get(), second.get());
        assert_ne!(ids.0, ids.1);
        drop((first, second));
        let (first, second) = (keep(), keep());
        assert_eq!(ids, (first.get(), second.get()));
    }

    #[test]
    fn another_name_is_kept_instead() {
        let folder = tempfile::tempdir().unwrap();
        let keep = || InstanceId::keep(folder.path()).unwrap();
        let instance = keep();
        let had = instance.get();
        let renewed = instance.renew().unwrap();
        assert_ne!(had, renewed);
        assert_eq!(instance.get(), renewed);
        drop(instance);
        assert_eq!(keep().get(), renewed);
    }

    #[test]
    fn a_name_that_is_damaged_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        for damaged in ["", "scrutin-12", "a longer name than any that was written here ever"] {
            std::fs::write(folder.path().join("kafka-instance-0"), damaged).unwrap();
            let id = InstanceId::keep(folder.path()).unwrap().get();
            assert_eq!(id.len(), 40, "{id}");
            assert_eq!(InstanceId::keep(folder.path()).unwrap().get(), id);
        }
    }
}
