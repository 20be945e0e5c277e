//! A model of throughput over cores: a closed network of `cores` customers, a delay for what runs side by side, one
//! station for the sequencer and one for each shard's turn. Solved by mean value analysis, which is exact for
//! exponential service times.

/// What one commit needs, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demands {
    /// Outside of all locks.
    pub(crate) side_by_side: f64,
    /// Under one shard's turn; of all shards, one is visited.
    pub(crate) turn: f64,
    /// In the sequencer, which all commits go through one after the other.
    pub(crate) sequencer: f64,
}

impl Demands {
    /// Commits per second if a core that finds a turn taken goes on with another task at once.
    pub(crate) fn at_most(&self, cores: u32, shards: u32) -> f64 {
        let all = self.side_by_side + self.turn + self.sequencer;
        (f64::from(cores) * 1e9 / all).min(self.limit(shards))
    }

    /// Commits per second of so many cores and shards, if a core waits for what is taken.
    pub(crate) fn throughput(&self, cores: u32, shards: u32) -> f64 {
        let turn = self.turn / f64::from(shards);
        // How many commits are at each station: the sequencer, and any one of the shards, which are alike.
        let (mut at_sequencer, mut at_shard) = (0.0, 0.0);
        let mut per_nanosecond = 0.0;
        for customers in 1..=cores {
            let sequencer = self.sequencer * (1.0 + at_sequencer);
            let shard = turn * (1.0 + at_shard);
            let all = self.side_by_side + sequencer + f64::from(shards) * shard;
            per_nanosecond = f64::from(customers) / all;
            (at_sequencer, at_shard) = (per_nanosecond * sequencer, per_nanosecond * shard);
        }
        per_nanosecond * 1e9
    }

    /// What no number of cores gets past.
    pub(crate) fn limit(&self, shards: u32) -> f64 {
        1e9 / self.sequencer.max(self.turn / f64::from(shards))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMANDS: Demands = Demands { side_by_side: 800.0, turn: 150.0, sequencer: 50.0 };

    #[test]
    fn one_core_waits_for_nobody() {
        let throughput = DEMANDS.throughput(1, 4);
        assert!((throughput - 1e6).abs() < 1.0, "{throughput}");
    }

    #[test]
    fn more_cores_are_faster_up_to_what_is_serial() {
        let throughput = |cores| DEMANDS.throughput(cores, cores);
        assert!(throughput(2) > 1.9e6 && throughput(2) < 2e6);
        assert!(throughput(16) > throughput(8));
        assert!((throughput(1000) / DEMANDS.limit(1000) - 1.0).abs() < 1e-6, "at its limit");
        assert!((DEMANDS.limit(64) - 2e7).abs() < 1.0);
        assert!(DEMANDS.at_most(16, 16) > throughput(16) && DEMANDS.at_most(1000, 1000) <= 2e7);
    }

    #[test]
    fn with_one_shard_the_turn_is_the_limit() {
        assert!(DEMANDS.throughput(64, 1) <= 1e9 / 150.0);
    }
}
