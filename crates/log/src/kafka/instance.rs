//! The id that a process keeps in its group across restarts: Kafka's `group.instance.id`.
//!
//! The group notices that a member was killed only when its session times out; until then nobody counts its partitions.
//! A member that comes back under the same id gets them back at once.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// No two processes have the same id, unless a data folder was copied: its file stays locked for as long as the value
/// lives.
#[derive(Debug)]
pub struct InstanceId {
    id: Mutex<String>,
    file: File,
}

impl InstanceId {
    /// Takes the id from the first file in the folder (`kafka-instance-0`, …) that no other process has locked; creates
    /// the id, the file and the folder if necessary.
    ///
    /// # Errors
    ///
    /// Fails if the folder or the file cannot be created, read, written or locked.
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

    /// Replaces the id, which another process has too, by a new random one.
    ///
    /// # Errors
    ///
    /// Fails if the new id cannot be written to the file.
    pub fn renew(&self) -> io::Result<String> {
        let id = write_new(&self.file)?;
        self.id.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&id);
        Ok(id)
    }
}

/// The id in the file; a new one if a crash has left the file without.
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
    fn an_id_is_kept_and_belongs_to_one_process_at_a_time() {
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
    fn a_renewed_id_replaces_the_old_one() {
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
    fn a_damaged_id_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for damaged in ["", "scrutin-12", "a longer name than any that was written here ever"] {
            std::fs::write(folder.path().join("kafka-instance-0"), damaged).unwrap();
            let id = InstanceId::keep(folder.path()).unwrap().get();
            assert_eq!(id.len(), 40, "{id}");
            assert_eq!(InstanceId::keep(folder.path()).unwrap().get(), id);
        }
    }
}
