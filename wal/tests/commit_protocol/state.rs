//! The model's state, and what can happen next.

/// Two shards.
pub(crate) const SHARDS: usize = 2;
/// Records in a segment.
const SEGMENT_RECORDS: usize = 2;
/// Which shards each transaction writes, as bits. Each depends on all before it that it could see.
const PARTICIPANTS: [u8; 4] = [0b11, 0b01, 0b10, 0b11];

/// What a recovery and a commit go by. `RIGHT` is the engine's; each other choice is a known mistake.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule that is kept or broken")]
pub(crate) struct Rules {
    /// A participant whose checkpoint covers a commit need not show a record of it.
    pub(crate) checkpoint_covers: bool,
    /// A checkpoint is published only at or below `synced`.
    pub(crate) checkpoint_at_synced: bool,
    /// Recovery keeps a prefix of the commit order, not whatever is complete.
    pub(crate) dense_prefix: bool,
    /// What lies beyond the cut of an incarnation is void for ever.
    pub(crate) fence: bool,
    /// Recovery makes durable what it accepted before it serves it.
    pub(crate) persist_again: bool,
    /// A commit is acknowledged when everything up to it is synced, not when its own logs are.
    pub(crate) acknowledge_at_watermark: bool,
    /// Relaxed durability: acknowledged at once, and only atomicity and prefix are promised.
    pub(crate) acknowledge_unsynced: bool,
    /// After a failed sync nothing is acknowledged, checkpointed or recycled any more.
    pub(crate) poison_on_failed_sync: bool,
    /// A full segment is synced before the next is written.
    pub(crate) sync_full_segment: bool,
    /// A segment is recycled only when all its records are covered.
    pub(crate) recycle_whole_segments: bool,
}

impl Rules {
    pub(crate) const RIGHT: Self = Self {
        checkpoint_covers: true,
        checkpoint_at_synced: true,
        dense_prefix: true,
        fence: true,
        persist_again: true,
        acknowledge_at_watermark: true,
        acknowledge_unsynced: false,
        poison_on_failed_sync: true,
        sync_full_segment: true,
        recycle_whole_segments: true,
    };
}

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) crashes: u8,
    pub(crate) sync_failures: u8,
    pub(crate) transactions: u8,
}

impl Default for Scenario {
    fn default() -> Self {
        Self { crashes: 2, sync_failures: 1, transactions: 4 }
    }
}

/// A transaction's record in one log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Record {
    transaction: u8,
    timestamp: u8,
    incarnation: u8,
    /// On disk, and not only in the page cache.
    on_disk: bool,
    /// Its page is marked clean, so that another sync does nothing for it: what a failed sync leaves (R12).
    marked_clean: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Shard {
    log: Vec<Record>,
    /// How many records were recycled before those in `log`: where segments begin.
    recycled: u8,
    /// So many records of `log` are believed to be on disk.
    synced: usize,
    /// The checkpoint's timestamp, and the transactions in it.
    checkpoint: u8,
    checkpointed: u8,
}

/// The whole system.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct State {
    shards: [Shard; SHARDS],
    up: bool,
    poisoned: bool,
    next_transaction: u8,
    next_timestamp: u8,
    incarnation: u8,
    /// The cut of each incarnation before this one.
    fences: Vec<u8>,
    /// Sets of transactions, as bits: in memory, acknowledged, seen by somebody, dropped by a recovery.
    applied: u8,
    acknowledged: u8,
    seen: u8,
    dropped: u8,
    /// What each transaction saw when it was submitted.
    depends_on: [u8; 4],
    crashes_left: u8,
    sync_failures_left: u8,
    transactions: u8,
}

/// The state after a step, or the promise that the step broke.
pub(crate) type Outcome = Result<State, String>;

const fn bit(transaction: u8) -> u8 {
    1 << transaction
}

const fn writes(transaction: u8, shard: usize) -> bool {
    PARTICIPANTS[transaction as usize] >> shard & 1 == 1
}

impl State {
    pub(crate) fn start(scenario: Scenario) -> Self {
        Self {
            up: true,
            next_timestamp: 1,
            crashes_left: scenario.crashes,
            sync_failures_left: scenario.sync_failures,
            transactions: scenario.transactions,
            ..Self::default()
        }
    }

    /// Everything that can happen next.
    pub(crate) fn steps(&self, rules: Rules) -> Vec<(String, Outcome)> {
        let mut steps = Vec::new();
        if self.up {
            self.submit(rules, &mut steps);
            for shard in 0..SHARDS {
                self.sync(rules, shard, &mut steps);
                if !self.poisoned {
                    self.checkpoint(rules, shard, &mut steps);
                    self.recycle(rules, shard, &mut steps);
                }
            }
        } else {
            steps.push(("recover".into(), self.recover(rules)));
        }
        self.crash(&mut steps);
        steps
    }

    fn submit(&self, rules: Rules, steps: &mut Vec<(String, Outcome)>) {
        if self.next_transaction == self.transactions || self.poisoned {
            return;
        }
        let mut next = self.clone();
        let (transaction, timestamp) = (self.next_transaction, self.next_timestamp);
        next.next_transaction += 1;
        next.next_timestamp += 1;
        next.depends_on[transaction as usize] = self.applied;
        next.applied |= bit(transaction);
        for shard in (0..SHARDS).filter(|shard| writes(transaction, *shard)) {
            next.shards[shard].append(transaction, timestamp, self.incarnation, rules);
        }
        next.acknowledge(rules);
        steps.push((format!("submit T{transaction} at {timestamp}"), Ok(next)));
    }

    fn sync(&self, rules: Rules, shard: usize, steps: &mut Vec<(String, Outcome)>) {
        if self.shards[shard].synced == self.shards[shard].log.len() || self.poisoned {
            return;
        }
        let mut next = self.clone();
        next.shards[shard].sync(rules);
        next.acknowledge(rules);
        steps.push((format!("sync log {shard}"), Ok(next)));
        if self.sync_failures_left > 0 {
            let mut next = self.clone();
            next.sync_failures_left -= 1;
            next.poisoned = rules.poison_on_failed_sync;
            let synced = next.shards[shard].synced;
            next.shards[shard].log[synced..].iter_mut().for_each(|record| record.marked_clean = true);
            steps.push((format!("the sync of log {shard} FAILS"), Ok(next)));
        }
    }

    fn checkpoint(&self, rules: Rules, shard: usize, steps: &mut Vec<(String, Outcome)>) {
        let limit = if rules.checkpoint_at_synced { self.synced() } else { self.next_timestamp - 1 };
        if limit <= self.shards[shard].checkpoint {
            return;
        }
        let mut next = self.clone();
        let own = &mut next.shards[shard];
        for record in own.log.iter().filter(|record| record.timestamp <= limit) {
            if self.applied & bit(record.transaction) != 0 {
                own.checkpointed |= bit(record.transaction);
            }
        }
        own.checkpoint = limit;
        steps.push((format!("checkpoint of shard {shard} at {limit}"), Ok(next)));
    }

    fn recycle(&self, rules: Rules, shard: usize, steps: &mut Vec<(String, Outcome)>) {
        let own = &self.shards[shard];
        // The first segment in the log ends where the next multiple of its size is.
        let length = SEGMENT_RECORDS - usize::from(own.recycled) % SEGMENT_RECORDS;
        let Some(segment) = own.log.get(..length) else { return };
        let covered = |record: &Record| record.timestamp <= own.checkpoint;
        let recyclable = if rules.recycle_whole_segments {
            segment.iter().all(covered)
        } else {
            segment.iter().any(covered)
        };
        if !recyclable {
            return;
        }
        let mut next = self.clone();
        let own = &mut next.shards[shard];
        own.log.drain(..length);
        own.recycled = (own.recycled + u8::try_from(length).expect("a few records")) % 2;
        own.synced = own.synced.saturating_sub(length);
        steps.push((format!("recycle a segment of log {shard}"), Ok(next)));
    }

    fn crash(&self, steps: &mut Vec<(String, Outcome)>) {
        if self.crashes_left == 0 {
            return;
        }
        let mut down = self.clone();
        down.crashes_left -= 1;
        down.up = false;
        down.poisoned = false;
        if self.up {
            steps.push(("the process ends; the page cache survives".into(), Ok(down.clone())));
        }
        // Of what is not on disk, any prefix of each log may have got there; a reader stops at the first hole.
        let keeps: Vec<Vec<usize>> = self.shards.iter().map(Shard::surviving_lengths).collect();
        for first in &keeps[0] {
            for second in &keeps[1] {
                let mut next = down.clone();
                for (shard, length) in next.shards.iter_mut().zip([*first, *second]) {
                    shard.lose_power(length);
                }
                steps.push((format!("power fails; {first} and {second} records survive"), Ok(next)));
            }
        }
    }

    /// The end of what every log has on disk, as far as the engine knows.
    fn synced(&self) -> u8 {
        let unsynced = self.shards.iter().flat_map(|shard| &shard.log[shard.synced..]);
        let own = unsynced.filter(|record| record.incarnation == self.incarnation);
        own.map(|record| record.timestamp - 1).min().unwrap_or(self.next_timestamp - 1)
    }

    fn acknowledge(&mut self, rules: Rules) {
        let synced = self.synced();
        for transaction in 0..self.transactions {
            let records = self
                .shards
                .iter()
                .flat_map(|shard| shard.log.iter().enumerate().map(move |(at, record)| (shard, at, record)));
            let own: Vec<_> = records
                .filter(|(_, _, record)| {
                    record.transaction == transaction && record.incarnation == self.incarnation
                })
                .map(|(shard, at, record)| (at < shard.synced, record.timestamp))
                .collect();
            let Some((_, timestamp)) = own.first() else { continue };
            let durable = if rules.acknowledge_at_watermark {
                *timestamp <= synced
            } else {
                own.iter().all(|(synced, _)| *synced)
            };
            if durable && !rules.acknowledge_unsynced && self.applied & bit(transaction) != 0 {
                self.acknowledged |= bit(transaction);
                self.seen |= bit(transaction);
            }
        }
    }

    /// What counts of the logs: nothing beyond the cut of its incarnation.
    fn counting(&self, rules: Rules, shard: usize) -> impl Iterator<Item = &Record> {
        self.shards[shard].log.iter().filter(move |record| {
            let cut = self.fences.get(usize::from(record.incarnation)).copied().unwrap_or(u8::MAX);
            !rules.fence || record.timestamp <= cut
        })
    }

    /// Whether all participants of what a log has at `timestamp` have it, or have it in a checkpoint.
    fn complete(&self, rules: Rules, transaction: u8, timestamp: u8, incarnation: u8) -> bool {
        (0..SHARDS).filter(|shard| writes(transaction, *shard)).all(|shard| {
            let has_record = self.counting(rules, shard).any(|record| {
                record.timestamp == timestamp && (!rules.fence || record.incarnation == incarnation)
            });
            has_record || rules.checkpoint_covers && self.shards[shard].checkpoint >= timestamp
        })
    }

    fn find(&self, rules: Rules, timestamp: u8) -> Option<&Record> {
        (0..SHARDS).find_map(|shard| self.counting(rules, shard).find(|record| record.timestamp == timestamp))
    }

    /// The timestamps that a recovery keeps, and the last of them.
    fn kept(&self, rules: Rules) -> (Vec<u8>, u8) {
        let checkpointed = self.shards.iter().map(|shard| shard.checkpoint).max().unwrap_or(0);
        let is_complete = |timestamp: u8| {
            let record = self.find(rules, timestamp);
            record
                .is_some_and(|record| self.complete(rules, record.transaction, timestamp, record.incarnation))
        };
        let last =
            (0..SHARDS).flat_map(|shard| self.counting(rules, shard)).map(|record| record.timestamp).max();
        let after = checkpointed + 1..=last.unwrap_or(0);
        if rules.dense_prefix && rules.checkpoint_covers {
            let cut = after.take_while(|timestamp| is_complete(*timestamp)).last().unwrap_or(checkpointed);
            ((1..=cut).collect(), cut)
        } else {
            let kept: Vec<u8> = (1..=last.unwrap_or(0)).filter(|timestamp| is_complete(*timestamp)).collect();
            let cut = kept.last().copied().unwrap_or(0).max(checkpointed);
            (kept, cut)
        }
    }

    fn recover(&self, rules: Rules) -> Outcome {
        let (kept, cut) = self.kept(rules);
        let mut recovered = [0_u8; SHARDS];
        for (shard, content) in recovered.iter_mut().enumerate() {
            *content = self.shards[shard].checkpointed;
            for record in self.counting(rules, shard) {
                if record.timestamp > self.shards[shard].checkpoint && kept.contains(&record.timestamp) {
                    *content |= bit(record.transaction);
                }
            }
        }
        let all = recovered.iter().fold(0, |all, content| all | content);
        self.check(rules, all, recovered)?;
        let mut next = self.clone();
        let submitted = (0..self.next_transaction).fold(0, |all, transaction| all | bit(transaction));
        next.dropped |= submitted & !all;
        next.applied = all;
        if !rules.acknowledge_unsynced {
            next.seen |= all;
        }
        if rules.fence {
            next.fences.resize(usize::from(self.incarnation) + 1, u8::MAX);
            next.fences.iter_mut().for_each(|fence| *fence = cut.min(*fence));
        }
        next.incarnation += 1;
        next.next_timestamp = cut + 1;
        next.up = true;
        for shard in &mut next.shards {
            if rules.persist_again {
                shard.log.iter_mut().for_each(|record| record.on_disk = true);
                shard.synced = shard.log.len();
            }
            shard.log.iter_mut().for_each(|record| record.marked_clean = false);
        }
        Ok(next)
    }

    fn check(&self, rules: Rules, all: u8, recovered: [u8; SHARDS]) -> Result<(), String> {
        for transaction in (0..self.transactions).filter(|transaction| all & bit(*transaction) != 0) {
            for (shard, content) in recovered.iter().enumerate() {
                if writes(transaction, shard) && content & bit(transaction) == 0 {
                    return Err(format!("ATOMICITY: T{transaction} is missing on shard {shard} alone"));
                }
            }
            let missing = self.depends_on[transaction as usize] & !all;
            if missing != 0 {
                return Err(format!(
                    "PREFIX: T{transaction} is there, and what it saw is not: {missing:04b}"
                ));
            }
        }
        if self.acknowledged & !all != 0 {
            return Err(format!("DURABILITY: acknowledged {:04b}, recovered {all:04b}", self.acknowledged));
        }
        if !rules.acknowledge_unsynced && self.seen & !all != 0 {
            return Err(format!("STABILITY: seen {:04b}, recovered {all:04b}", self.seen));
        }
        if self.dropped & all != 0 {
            return Err(format!("RESURRECTION: dropped {:04b}, recovered {all:04b}", self.dropped));
        }
        Ok(())
    }
}

impl Shard {
    fn append(&mut self, transaction: u8, timestamp: u8, incarnation: u8, rules: Rules) {
        let at = usize::from(self.recycled) + self.log.len();
        if at.is_multiple_of(SEGMENT_RECORDS) && rules.sync_full_segment {
            // The segment before is synced before this one is written, by the engine's own account too.
            self.sync(rules);
        }
        self.log.push(Record { transaction, timestamp, incarnation, on_disk: false, marked_clean: false });
    }

    /// Syncs the file of the active segment. What stands in an earlier one is not in that file.
    fn sync(&mut self, rules: Rules) {
        let length = self.log.len();
        let active = if rules.sync_full_segment || length == 0 {
            0
        } else {
            let last = usize::from(self.recycled) + length - 1;
            (last / SEGMENT_RECORDS * SEGMENT_RECORDS).saturating_sub(usize::from(self.recycled))
        };
        for record in &mut self.log[active..] {
            record.on_disk |= !record.marked_clean;
        }
        self.synced = length;
    }

    /// How many records can be read after a power failure: up to the first that is lost.
    fn surviving_lengths(&self) -> Vec<usize> {
        let safe = self.log.iter().take_while(|record| record.on_disk).count();
        // What is marked clean is never written back.
        let possible = self.log.iter().take_while(|record| record.on_disk || !record.marked_clean).count();
        (safe..=possible).collect()
    }

    fn lose_power(&mut self, length: usize) {
        self.log.truncate(length);
        self.log.iter_mut().for_each(|record| {
            record.on_disk = true;
            record.marked_clean = false;
        });
        self.synced = length;
    }
}
