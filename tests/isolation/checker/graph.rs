//! Who came before whom.
//!
//! Real time is a chain of barriers: a transaction that has completed leads to a barrier, each barrier to the
//! next, and the latest to every transaction that is then invoked. So it takes no more edges than there are
//! transactions, and the same can be reached as with an edge between every two.

use super::history::{History, Time};
use super::versions::Versions;

/// Kinds of edges, as bits.
pub(crate) type Kinds = u8;
/// Both appended to a list, one directly after the other.
pub(crate) const WW: Kinds = 1;
/// The second read what the first appended last.
pub(crate) const WR: Kinds = 2;
/// The first read a list to which the second was the next to append.
pub(crate) const RW: Kinds = 4;
/// The first had completed when the second was invoked.
pub(crate) const RT: Kinds = 8;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Edge {
    pub(crate) to: u32,
    pub(crate) kind: Kinds,
    /// The list, and how long it was before the second append or after the read one. Of no meaning with `RT`.
    pub(crate) list: u32,
    pub(crate) length: u32,
}

/// Nodes are transactions by their number in the history, and barriers above.
pub(crate) struct Graph {
    /// Where the edges of each node begin.
    starts: Vec<u32>,
    edges: Vec<Edge>,
    /// When each node began, to put nodes in an order that is nearly that of time.
    pub(crate) times: Vec<Time>,
    transactions: u32,
}

impl Graph {
    pub(crate) fn new(history: &History, versions: &Versions<'_>) -> Self {
        let mut pairs = Vec::new();
        for (number, list) in (0..).zip(&versions.lists) {
            for (length, pair) in (1..).zip(list.writers.windows(2)) {
                if let [Some(from), Some(to)] = *pair {
                    pairs.push((from, Edge { to, kind: WW, list: number, length }));
                }
            }
        }
        for seen in &versions.seen {
            let writers = &versions.lists[seen.list as usize].writers;
            let length = seen.length;
            let edge = |to, kind| Edge { to, kind, list: seen.list, length };
            if let Some(Some(writer)) = (length as usize).checked_sub(1).and_then(|last| writers.get(last)) {
                pairs.push((*writer, edge(seen.txn, WR)));
            }
            if let Some(Some(writer)) = writers.get(length as usize) {
                pairs.push((seen.txn, edge(*writer, RW)));
            }
        }
        let mut times: Vec<Time> = history.txns.iter().map(|txn| txn.invoked).collect();
        let transactions = u32::try_from(times.len()).expect("fewer transactions than that");
        real_time(history, versions, &mut pairs, &mut times);
        pairs.retain(|(from, edge)| *from != edge.to);
        let (starts, edges) = by_source(pairs, times.len());
        Self { starts, edges, times, transactions }
    }

    pub(crate) fn nodes(&self) -> u32 {
        u32::try_from(self.times.len()).expect("fewer nodes than that")
    }

    pub(crate) fn edges(&self) -> usize {
        self.edges.len()
    }

    pub(crate) const fn is_transaction(&self, node: u32) -> bool {
        node < self.transactions
    }

    /// The numbers of a node's edges.
    pub(crate) fn out(&self, node: u32) -> std::ops::Range<u32> {
        self.starts[node as usize]..self.starts[node as usize + 1]
    }

    pub(crate) fn edge(&self, number: u32) -> Edge {
        self.edges[number as usize]
    }

    /// A number for each node, equal for those on a common cycle of edges of these kinds. Tarjan's algorithm,
    /// without recursion.
    pub(crate) fn components(&self, kinds: Kinds) -> Components {
        const UNSEEN: u32 = u32::MAX;
        let count = self.nodes() as usize;
        let (mut found, mut low) = (vec![UNSEEN; count], vec![0_u32; count]);
        let mut components = Components { of: vec![UNSEEN; count], sizes: Vec::new() };
        let (mut open, mut path, mut clock) = (Vec::new(), Vec::new(), 0);
        for root in 0..self.nodes() {
            if found[root as usize] != UNSEEN {
                continue;
            }
            path.push((root, self.out(root)));
            while let Some((node, rest)) = path.last_mut() {
                let node = *node;
                if found[node as usize] == UNSEEN {
                    (found[node as usize], low[node as usize]) = (clock, clock);
                    clock += 1;
                    open.push(node);
                }
                if let Some(edge) = rest.next().map(|number| self.edges[number as usize]) {
                    let to = edge.to as usize;
                    if edge.kind & kinds == 0 || components.of[to] != UNSEEN {
                        continue;
                    }
                    if found[to] == UNSEEN {
                        path.push((edge.to, self.out(edge.to)));
                    } else {
                        low[node as usize] = low[node as usize].min(found[to]);
                    }
                    continue;
                }
                path.pop();
                if let Some((parent, _)) = path.last() {
                    low[*parent as usize] = low[*parent as usize].min(low[node as usize]);
                }
                if low[node as usize] == found[node as usize] {
                    components.close(node, &mut open);
                }
            }
        }
        components
    }
}

/// Which nodes lie on common cycles.
pub(crate) struct Components {
    of: Vec<u32>,
    sizes: Vec<u32>,
}

impl Components {
    fn close(&mut self, root: u32, open: &mut Vec<u32>) {
        let number = u32::try_from(self.sizes.len()).expect("fewer components than that");
        let mut size = 0;
        while let Some(node) = open.pop() {
            self.of[node as usize] = number;
            size += 1;
            if node == root {
                break;
            }
        }
        self.sizes.push(size);
    }

    pub(crate) fn of(&self, node: u32) -> u32 {
        self.of[node as usize]
    }

    pub(crate) fn has_cycle(&self) -> bool {
        self.sizes.iter().any(|size| *size > 1)
    }
}

fn real_time(
    history: &History,
    versions: &Versions<'_>,
    pairs: &mut Vec<(u32, Edge)>,
    times: &mut Vec<Time>,
) {
    // At equal times the invocation goes first, so the two overlap.
    let mut events = Vec::new();
    for (txn, body) in (0_u32..).zip(&history.txns) {
        if versions.is_committed[txn as usize] {
            events.push((body.invoked, false, txn));
            events.extend(body.completed.map(|completed| (completed, true, txn)));
        }
    }
    events.sort_unstable();
    let edge = |to| Edge { to, kind: RT, list: 0, length: 0 };
    let mut barrier: Option<u32> = None;
    // A barrier takes further completions until somebody is invoked after it.
    let mut is_used = true;
    for (time, completes, txn) in events {
        if !completes {
            pairs.extend(barrier.map(|barrier| (barrier, edge(txn))));
            is_used = true;
            continue;
        }
        if is_used {
            let next = u32::try_from(times.len()).expect("fewer nodes than that");
            times.push(time);
            pairs.extend(barrier.map(|barrier| (barrier, edge(next))));
            barrier = Some(next);
            is_used = false;
        }
        pairs.extend(barrier.map(|barrier| (txn, edge(barrier))));
    }
}

/// Edges sorted by their source, by counting.
fn by_source(pairs: Vec<(u32, Edge)>, nodes: usize) -> (Vec<u32>, Vec<Edge>) {
    let mut starts = vec![0_u32; nodes + 1];
    for (from, _) in &pairs {
        starts[*from as usize + 1] += 1;
    }
    for node in 0..nodes {
        starts[node + 1] += starts[node];
    }
    let mut next = starts.clone();
    let mut edges = vec![Edge { to: 0, kind: 0, list: 0, length: 0 }; pairs.len()];
    for (from, edge) in pairs {
        edges[next[from as usize] as usize] = edge;
        next[from as usize] += 1;
    }
    (starts, edges)
}
