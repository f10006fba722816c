//! The clock that delays are measured by, which somebody may set.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock that is further from the time that has passed was set. So is one that is further from a broker's than that: what
/// it says of an append is not known to be true.
const TOLERANCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Clock {
    wall: SystemTime,
    at: Instant,
    set_at: Option<SystemTime>,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { wall: SystemTime::now(), at: Instant::now(), set_at: None }
    }
}

impl Clock {
    pub fn now(&mut self) -> SystemTime {
        self.read(SystemTime::now(), Instant::now())
    }

    /// What the clock on the wall shows, so long after the last time.
    fn read(&mut self, wall: SystemTime, at: Instant) -> SystemTime {
        let expected = self.wall + at.saturating_duration_since(self.at);
        let apart = wall.duration_since(expected).unwrap_or_else(|error| error.duration());
        if apart > TOLERANCE {
            tracing::warn!(
                "the clock was set by {:.1} s; of votes that were appended before, it is not known how soon they were visible",
                apart.as_secs_f64()
            );
            self.set_at = Some(wall);
        }
        (self.wall, self.at) = (wall, at);
        wall
    }

    /// Milliseconds from an append, in milliseconds since 1970 UTC, to the time that was read last. None if they are by
    /// different clocks.
    pub(super) fn since(&self, appended_at_ms: i64) -> Option<f64> {
        let ms = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0);
        let appended_ms = appended_at_ms as f64;
        let since = ms(self.wall) - appended_ms;
        let is_known = since >= -(TOLERANCE.as_millis() as f64) && self.set_at.is_none_or(|set| appended_ms >= ms(set));
        is_known.then_some(since.max(0.0))
    }

    #[cfg(test)]
    pub(super) fn at_ms(ms: u64) -> Clock {
        Clock { wall: UNIX_EPOCH + Duration::from_millis(ms), at: Instant::now(), set_at: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    /// A clock at 10:00 that is read again a second later, when it shows that time.
    fn read_at(ms: u64) -> Clock {
        let mut clock = Clock::at_ms(10 * HOUR_MS);
        let at = clock.at + Duration::from_secs(1);
        assert_eq!(clock.read(UNIX_EPOCH + Duration::from_millis(ms), at), UNIX_EPOCH + Duration::from_millis(ms));
        clock
    }

    #[test]
    fn a_delay_is_from_append_to_now() {
        let clock = read_at(10 * HOUR_MS + 1000);
        assert_eq!(clock.since(10 * HOUR_MS as i64 + 300), Some(700.0));
        // The broker's clock is a little ahead, or far.
        assert_eq!(clock.since(10 * HOUR_MS as i64 + 1100), Some(0.0));
        assert_eq!(clock.since(10 * HOUR_MS as i64 + 2000), None);
    }

    #[test]
    fn what_was_appended_before_the_clock_was_set_has_no_delay() {
        for set in [11, 9] {
            let mut clock = read_at(set * HOUR_MS);
            assert_eq!(clock.since(10 * HOUR_MS as i64 + 900), None, "{set}");
            let at = clock.at + Duration::from_millis(100);
            clock.read(UNIX_EPOCH + Duration::from_millis(set * HOUR_MS + 100), at);
            assert_eq!(clock.since((set * HOUR_MS) as i64 + 60), Some(40.0), "{set}");
            assert_eq!(clock.since(10 * HOUR_MS as i64 + 900), None, "{set}");
        }
    }
}
