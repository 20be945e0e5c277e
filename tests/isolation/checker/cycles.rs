//! The search for cycles, the kinds that only weak systems have first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::anomaly::{Anomaly, Kind};
use super::graph::{Edge, Graph, Kinds, RT, RW, WR, WW};
use super::history::History;

/// A kind of cycle: one edge of kind `first`, and from its end back to its start any of `back`.
struct Shape {
    kind: Kind,
    first: Kinds,
    back: Kinds,
}

const SHAPES: [Shape; 8] = [
    Shape { kind: Kind::G0, first: WW, back: WW },
    Shape { kind: Kind::G1c, first: WR, back: WW | WR },
    Shape { kind: Kind::GSingle, first: RW, back: WW | WR },
    Shape { kind: Kind::G2, first: RW, back: WW | WR | RW },
    Shape { kind: Kind::G0Realtime, first: WW, back: WW | RT },
    Shape { kind: Kind::G1cRealtime, first: WR, back: WW | WR | RT },
    Shape { kind: Kind::GSingleRealtime, first: RW, back: WW | WR | RT },
    Shape { kind: Kind::G2Realtime, first: RW, back: WW | WR | RW | RT },
];

/// In each group of entangled transactions, so many cycles are looked at for the shortest.
const CANDIDATES_MAX: u32 = 50;
/// Nodes visited per shape where no order of the nodes bounds the search. That is so only when a weaker kind of
/// cycle has been found already.
const UNORDERED_VISITS_MAX: u64 = 50_000_000;

/// Reports the shortest cycle of each shape for each group of entangled transactions.
pub(crate) fn search(history: &History, graph: &Graph, anomalies: &mut Vec<Anomaly>) {
    if !graph.components(WW | WR | RW | RT).has_cycle() {
        return;
    }
    let mut search = Search::new(graph);
    for shape in &SHAPES {
        anomalies.extend(search.shape(shape, history));
    }
}

type Cycle = Vec<(u32, Edge)>;

struct Search<'g> {
    graph: &'g Graph,
    /// The last search that saw each node, and how it came there.
    seen: Vec<u32>,
    came_by: Vec<(u32, u32)>,
    searches: u32,
    visits: u64,
}

impl<'g> Search<'g> {
    fn new(graph: &'g Graph) -> Self {
        let nodes = graph.nodes() as usize;
        Self { graph, seen: vec![0; nodes], came_by: vec![(0, 0); nodes], searches: 0, visits: 0 }
    }

    fn shape(&mut self, shape: &Shape, history: &History) -> Vec<Anomaly> {
        let graph = self.graph;
        let components = graph.components(shape.first | shape.back);
        if !components.has_cycle() {
            return Vec::new();
        }
        let order = order(graph, shape.back);
        self.visits = 0;
        let mut best: BTreeMap<u32, (u32, Cycle)> = BTreeMap::new();
        let nodes = 0..u32::try_from(history.txns.len()).expect("fewer transactions than that");
        for (from, number) in nodes.flat_map(|node| graph.out(node).map(move |number| (node, number))) {
            let edge = graph.edge(number);
            let component = components.of(from);
            if edge.kind & shape.first == 0 || components.of(edge.to) != component {
                continue;
            }
            let (tried, shortest) = best.entry(component).or_default();
            let is_bounded = order.is_some() || self.visits < UNORDERED_VISITS_MAX;
            if *tried >= CANDIDATES_MAX || !is_bounded {
                continue;
            }
            let allowed = |node: u32| {
                components.of(node) == component
                    && order.as_ref().is_none_or(|order| order[node as usize] <= order[from as usize])
            };
            let Some(cycle) = self.cycle(from, edge, shape.back, allowed) else { continue };
            if is_of(shape, &cycle) {
                *tried += 1;
                if shortest.is_empty() || cycle.len() < shortest.len() {
                    *shortest = cycle;
                }
            }
        }
        let found = best.into_values().map(|best| best.1).filter(|cycle| !cycle.is_empty());
        found.map(|edges| Anomaly::Cycle { kind: shape.kind, edges }).collect()
    }

    /// The shortest cycle that begins with an edge, if there is one. Barriers cost nothing.
    fn cycle(&mut self, from: u32, first: Edge, back: Kinds, allowed: impl Fn(u32) -> bool) -> Option<Cycle> {
        if !allowed(first.to) {
            return None;
        }
        self.searches += 1;
        let mut queue = VecDeque::from([(first.to, u32::MAX, 0)]);
        while let Some((node, source, number)) = queue.pop_front() {
            if self.seen[node as usize] == self.searches {
                continue;
            }
            self.visits += 1;
            self.seen[node as usize] = self.searches;
            self.came_by[node as usize] = (source, number);
            if node == from {
                return Some(self.trace(from, first));
            }
            for number in self.graph.out(node) {
                let edge = self.graph.edge(number);
                let is_new = self.seen[edge.to as usize] != self.searches;
                if edge.kind & back == 0 || !is_new || !allowed(edge.to) {
                    continue;
                }
                if self.graph.is_transaction(edge.to) {
                    queue.push_back((edge.to, node, number));
                } else {
                    queue.push_front((edge.to, node, number));
                }
            }
        }
        None
    }

    /// The cycle's transactions, each with its edge to the next; barriers are left out.
    fn trace(&self, from: u32, first: Edge) -> Cycle {
        let mut cycle = Vec::new();
        let (mut node, mut next) = (from, from);
        while node != first.to {
            let (source, number) = self.came_by[node as usize];
            if self.graph.is_transaction(source) {
                cycle.push((source, Edge { to: next, ..self.graph.edge(number) }));
                next = source;
            }
            node = source;
        }
        cycle.push((from, first));
        cycle.reverse();
        cycle
    }
}

/// What the search can't promise: that real time is needed, and that a second read was overwritten. Without
/// that, it is a kind that has its own shape.
fn is_of(shape: &Shape, cycle: &Cycle) -> bool {
    let count = |kind| cycle.iter().filter(|(_, edge)| edge.kind == kind).count();
    (shape.back & RT == 0 || count(RT) > 0) && (shape.back & RW == 0 || count(RW) > 1)
}

/// A position for each node, later than those of all it can be reached from, and else by time. `None` if there
/// is no such order.
fn order(graph: &Graph, kinds: Kinds) -> Option<Vec<u32>> {
    let edges = |node| graph.out(node).map(|number| graph.edge(number)).filter(|edge| edge.kind & kinds != 0);
    let mut before = vec![0_u32; graph.nodes() as usize];
    for edge in (0..graph.nodes()).flat_map(edges) {
        before[edge.to as usize] += 1;
    }
    let by_time = |node: u32| Reverse((graph.times[node as usize], node));
    let mut ready: BinaryHeap<_> =
        (0..graph.nodes()).filter(|node| before[*node as usize] == 0).map(by_time).collect();
    let mut order = vec![u32::MAX; graph.nodes() as usize];
    let mut position = 0;
    while let Some(Reverse((_, node))) = ready.pop() {
        order[node as usize] = position;
        position += 1;
        for edge in edges(node) {
            before[edge.to as usize] -= 1;
            if before[edge.to as usize] == 0 {
                ready.push(by_time(edge.to));
            }
        }
    }
    (position == graph.nodes()).then_some(order)
}
