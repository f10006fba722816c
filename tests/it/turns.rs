//! Turns: limits how many tests may run something heavy at a time. The others wait.

use std::sync::{Condvar, Mutex};

pub struct Turns {
    free: Mutex<u32>,
    freed: Condvar,
}

/// Released on drop.
pub struct Turn(&'static Turns);

impl Turns {
    pub const fn of(at_a_time: u32) -> Turns {
        Turns { free: Mutex::new(at_a_time), freed: Condvar::new() }
    }

    pub fn take(&'static self) -> Turn {
        let free = self.free.lock().unwrap();
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap();
        *free -= 1;
        Turn(self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap() += 1;
        self.0.freed.notify_one();
    }
}
