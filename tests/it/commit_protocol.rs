//! Model checks the commit protocol of `crates/store/src/commit.rs` in every order of events: two processes of one
//! counter on one partition, crashes, broken connections, lost answers, takeovers, a server that finishes what it was
//! sent, and a standby that takes over without the last commits.
//!
//! This checks a model. The tests in `answer`, `crash` and `kafka_crash` check that the program behaves like it.

use std::collections::HashMap;

/// Records in the partition. A commit counts one or two.
const RECORDS: u8 = 2;

/// Upper bounds on the events of one run.
#[derive(Clone, Copy)]
struct Limits {
    /// Broken connections and crashed processes.
    faults: u8,
    /// Takeovers, including the first start of each process.
    takes: u8,
    /// Servers lost and replaced by their standby.
    failovers: u8,
}

/// The committed state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Tables {
    /// The row in `position`.
    next_offset: u8,
    epoch: u8,
    /// How many times each record has been counted.
    counted: [u8; RECORDS as usize],
}

const EMPTY: Tables = Tables { next_offset: 0, epoch: 0, counted: [0; RECORDS as usize] };

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    tables: Tables,
    /// The state replicated to the standby.
    standby: Tables,
    /// Transactions on the server, whether or not their client is still connected. `turn` is the index of the one
    /// holding the turn.
    transactions: Vec<Transaction>,
    turn: Option<usize>,
    processes: [Process; 2],
    faults: u8,
    takes: u8,
    failovers: u8,
}

/// A commit of the records from `offset` to `end`, as the server sees it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Transaction {
    process: usize,
    offset: u8,
    end: u8,
    epoch: u8,
    stage: Stage,
    /// Whether its client will receive the answer.
    is_connected: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Stage {
    /// Waiting for its turn.
    Waits,
    /// Has moved the position, invisibly to others, and waits for COMMIT.
    Moved,
    /// COMMIT was sent and will be executed.
    Commits,
    Answered(Answer),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Answer {
    Done,
    DoneBefore,
    SetBack,
    Superseded,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Process {
    Down,
    /// Knows the position of the partition and the epoch it holds it with.
    Ready {
        offset: u8,
        epoch: u8,
    },
    /// Has sent a commit and waits for the answer.
    Asks {
        offset: u8,
        end: u8,
        epoch: u8,
    },
    /// Its connection broke; it will retry the same commit.
    Doubts {
        offset: u8,
        end: u8,
        epoch: u8,
    },
    /// Knows that commits are lost; will take the partition again.
    SetBack,
}

impl Process {
    fn holds(self, number: u8) -> bool {
        match self {
            Process::Down => false,
            Process::SetBack => true,
            Process::Ready { epoch, .. } | Process::Asks { epoch, .. } | Process::Doubts { epoch, .. } => {
                epoch == number
            }
        }
    }
}

/// The protocol as written, or a variant with a bug.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    AsWritten,
    /// Checks only before its turn, and never again, whether a commit in doubt succeeded.
    LooksBeforeItsTurn,
    /// Cannot tell that the same commit already succeeded.
    ForgetsDoneBefore,
    /// Does not check whether the partition has since been taken over.
    IgnoresTakeovers,
    /// Notices lost commits only at the next commit, which may never come.
    LooksAtNewServersLate,
}

impl World {
    fn new() -> World {
        World {
            tables: EMPTY,
            standby: EMPTY,
            transactions: Vec::new(),
            turn: None,
            processes: [Process::Down; 2],
            faults: 0,
            takes: 0,
            failovers: 0,
        }
    }

    /// Whether the tables have lost something that a process had committed.
    fn is_set_back(&self, offset: u8, epoch: u8) -> bool {
        self.tables.epoch < epoch || (self.tables.epoch == epoch && self.tables.next_offset < offset)
    }

    fn judge(&self, tx: &Transaction, protocol: Protocol) -> Option<Answer> {
        let forgets = matches!(protocol, Protocol::ForgetsDoneBefore | Protocol::LooksBeforeItsTurn);
        let is_held = tx.epoch == self.tables.epoch || protocol == Protocol::IgnoresTakeovers;
        if self.tables.next_offset == tx.offset && is_held {
            None
        } else if self.tables.next_offset == tx.end && is_held && !forgets {
            Some(Answer::DoneBefore)
        } else if self.is_set_back(tx.offset, tx.epoch) {
            Some(Answer::SetBack)
        } else {
            Some(Answer::Superseded)
        }
    }

    /// All worlds one step away. `with_faults` includes crashes and broken connections.
    fn steps(&self, protocol: Protocol, limits: Limits, with_faults: bool) -> Vec<World> {
        let mut steps = Vec::new();
        // One fault or takeover at a time, per process and per transaction.
        let (faults, takes) = (if with_faults { limits.faults } else { 0 }, limits.takes);
        for number in 0..self.processes.len() {
            self.steps_of_process(number, protocol, takes, faults, &mut steps);
        }
        for place in 0..self.transactions.len() {
            self.steps_of_transaction(place, protocol, faults, &mut steps);
        }
        if with_faults && self.failovers < limits.failovers {
            steps.push(World { standby: self.tables, ..self.clone() });
            steps.push(self.after_a_failover());
        }
        steps
    }

    /// The server is lost with all its transactions.
    fn after_a_failover(&self) -> World {
        let mut world = self.clone();
        world.failovers += 1;
        world.tables = world.standby;
        for tx in world.transactions.drain(..).filter(|tx| tx.is_connected) {
            world.processes[tx.process] = Process::Doubts { offset: tx.offset, end: tx.end, epoch: tx.epoch };
        }
        world.turn = None;
        world
    }

    fn steps_of_process(&self, number: usize, protocol: Protocol, takes: u8, faults: u8, steps: &mut Vec<World>) {
        let mut step = |change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            steps.push(world);
        };
        let process = self.processes[number];
        match process {
            // Takes the partition in its turn: at start, or because the group assigned it.
            Process::Down if self.turn.is_none() && self.takes < takes => step(&|world| {
                world.takes += 1;
                world.take(number);
            }),
            Process::SetBack if self.turn.is_none() => step(&|world| world.take(number)),
            Process::Ready { offset, epoch }
                if self.is_set_back(offset, epoch) && protocol != Protocol::LooksAtNewServersLate =>
            {
                step(&|world| world.processes[number] = Process::SetBack);
            }
            Process::Ready { offset, epoch } => (offset + 1..=RECORDS.min(offset + 2)).for_each(|end| {
                step(&|world| world.ask(number, offset, end, epoch, Stage::Waits));
            }),
            Process::Doubts { offset, end, epoch } => {
                let is_early = protocol == Protocol::LooksBeforeItsTurn && self.tables.next_offset == end;
                let stage = if is_early { Stage::Answered(Answer::DoneBefore) } else { Stage::Waits };
                step(&|world| world.ask(number, offset, end, epoch, stage));
            }
            _ => {}
        }
        if process != Process::Down && self.faults < faults {
            step(&|world| {
                world.faults += 1;
                world.processes[number] = Process::Down;
                world.leave(number);
            });
        }
    }

    fn steps_of_transaction(&self, place: usize, protocol: Protocol, faults: u8, steps: &mut Vec<World>) {
        let tx = &self.transactions[place];
        let mut step = |change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            steps.push(world);
        };
        match tx.stage {
            Stage::Waits if self.turn.is_none() => step(&|world| match world.judge(tx, protocol) {
                None => {
                    world.turn = Some(place);
                    world.transactions[place].stage = Stage::Moved;
                }
                Some(answer) => world.transactions[place].stage = Stage::Answered(answer),
            }),
            Stage::Moved if tx.is_connected => step(&|world| world.transactions[place].stage = Stage::Commits),
            Stage::Moved => step(&|world| world.forget(place)),
            Stage::Commits => step(&|world| {
                world.turn = None;
                world.tables.next_offset = tx.end;
                (tx.offset..tx.end).for_each(|offset| world.tables.counted[usize::from(offset)] += 1);
                world.transactions[place].stage = Stage::Answered(Answer::Done);
            }),
            Stage::Answered(answer) => step(&|world| {
                if tx.is_connected {
                    world.processes[tx.process] = match answer {
                        Answer::Done | Answer::DoneBefore => Process::Ready { offset: tx.end, epoch: tx.epoch },
                        Answer::SetBack => Process::SetBack,
                        Answer::Superseded => Process::Down,
                    };
                }
                world.forget(place);
            }),
            Stage::Waits => {}
        }
        if tx.is_connected && self.faults < faults {
            step(&|world| {
                world.faults += 1;
                world.processes[tx.process] = Process::Doubts { offset: tx.offset, end: tx.end, epoch: tx.epoch };
                world.leave(tx.process);
            });
        }
    }

    fn take(&mut self, process: usize) {
        self.tables.epoch += 1;
        self.processes[process] = Process::Ready { offset: self.tables.next_offset, epoch: self.tables.epoch };
    }

    fn ask(&mut self, process: usize, offset: u8, end: u8, epoch: u8, stage: Stage) {
        self.transactions.push(Transaction { process, offset, end, epoch, stage, is_connected: true });
        self.processes[process] = Process::Asks { offset, end, epoch };
    }

    /// The client of a process's transaction is gone; the server notices only when it next reads from it.
    fn leave(&mut self, process: usize) {
        for tx in &mut self.transactions {
            tx.is_connected &= tx.process != process;
        }
    }

    fn forget(&mut self, place: usize) {
        self.transactions.remove(place);
        self.turn = match self.turn {
            Some(turn) if turn == place => None,
            Some(turn) if turn > place => Some(turn - 1),
            turn => turn,
        };
    }

    /// The first violated invariant.
    fn fault(&self) -> Option<String> {
        let Tables { next_offset, epoch, counted } = self.tables;
        let expected: Vec<u8> = (0..RECORDS).map(|offset| u8::from(offset < next_offset)).collect();
        if counted[..] != expected[..] {
            return Some(format!("counted {counted:?} at position {next_offset}"));
        }
        for tx in &self.transactions {
            match tx.stage {
                // After a failover, another process may hold the same epoch and have moved on.
                Stage::Answered(Answer::Superseded) if tx.is_connected && tx.epoch == epoch && self.failovers == 0 => {
                    return Some("a takeover is reported that did not happen".into());
                }
                Stage::Answered(Answer::SetBack) if self.failovers == 0 => {
                    return Some("commits are reported lost that are not".into());
                }
                Stage::Answered(Answer::Done | Answer::DoneBefore) if next_offset < tx.end => {
                    return Some("a commit is reported that did not happen".into());
                }
                _ => {}
            }
        }
        None
    }
}

/// Visits every reachable world. Returns their number, or the first violation.
fn walk(protocol: Protocol, limits: Limits) -> Result<usize, String> {
    let mut worlds = vec![World::new()];
    let mut places: HashMap<World, usize> = HashMap::from([(World::new(), 0)]);
    // For each world, those from which a fault-free step leads to it.
    let mut before: Vec<Vec<usize>> = vec![Vec::new()];
    let mut here = 0;
    while here < worlds.len() {
        let world = worlds[here].clone();
        if let Some(fault) = world.fault() {
            return Err(format!("{fault}: {world:?}"));
        }
        for with_faults in [false, true] {
            for next in world.steps(protocol, limits, with_faults) {
                let there = *places.entry(next).or_insert_with_key(|next| {
                    worlds.push(next.clone());
                    before.push(Vec::new());
                    worlds.len() - 1
                });
                if !with_faults {
                    before[there].push(here);
                }
            }
        }
        here += 1;
    }
    // Liveness: while a process holds the partition or may take it, everything is eventually counted if no more faults
    // occur.
    let mut comes_to_an_end: Vec<bool> = worlds.iter().map(|world| world.tables.next_offset == RECORDS).collect();
    let mut waiting: Vec<usize> = (0..worlds.len()).filter(|place| comes_to_an_end[*place]).collect();
    while let Some(place) = waiting.pop() {
        for &earlier in &before[place] {
            if !std::mem::replace(&mut comes_to_an_end[earlier], true) {
                waiting.push(earlier);
            }
        }
    }
    let goes_on = |world: &World| {
        // After a failover an epoch may be reused by another process: the two can shut each other out until one takes
        // the partition again.
        let is_held = world.failovers == 0 && world.processes.iter().any(|it| it.holds(world.tables.epoch));
        world.takes < limits.takes || is_held
    };
    match worlds.iter().zip(comes_to_an_end).find(|(world, ends)| goes_on(world) && !ends) {
        Some((world, _)) => Err(format!("the protocol is stuck: {world:?}")),
        None => Ok(worlds.len()),
    }
}

#[test]
fn each_record_counts_once_and_no_takeover_is_invented_in_any_order_of_faults() {
    let limits = Limits { faults: 2, takes: 3, failovers: 0 };
    let worlds = walk(Protocol::AsWritten, limits).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(worlds > 10_000, "{worlds}");
    for mistake in [Protocol::LooksBeforeItsTurn, Protocol::ForgetsDoneBefore, Protocol::IgnoresTakeovers] {
        walk(mistake, limits).expect_err("the bug was not found");
    }
}

#[test]
fn records_a_standby_has_not_received_are_counted_again_and_none_twice() {
    let limits = Limits { faults: 1, takes: 3, failovers: 1 };
    let worlds = walk(Protocol::AsWritten, limits).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(worlds > 10_000, "{worlds}");
    walk(Protocol::LooksAtNewServersLate, limits).expect_err("the bug was not found");
}
