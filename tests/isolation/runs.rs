//! The body of a transaction over lists, which may run several times.

use anabranch::Error;

use crate::checker::Op;
use crate::lists::{self, Txn};

/// One thing that a transaction does.
#[derive(Clone)]
pub(crate) enum Step {
    Append(u64),
    Read(u64),
    /// Appends which are rolled back to a savepoint.
    Undo(Vec<u64>),
    Range(std::ops::Range<u64>),
    Group(u64),
}

/// Where a client's elements come from: none is ever used twice.
pub(crate) struct Elements(u64);

impl Elements {
    pub(crate) const fn after(element: u64) -> Self {
        Self(element)
    }

    pub(crate) const fn last(&self) -> u64 {
        self.0
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// The runs of one transaction: what the last did, and what all before it failed to.
#[derive(Default)]
pub(crate) struct Runs {
    ops: Vec<Op>,
    undone: Vec<Op>,
}

impl Runs {
    pub(crate) fn begin(&mut self) {
        self.undone.extend(self.ops.drain(..).filter_map(|op| match op {
            Op::Append(list, element) | Op::Undone(list, element) => Some(Op::Undone(list, element)),
            Op::Read(..) => None,
        }));
    }

    pub(crate) fn run(
        &mut self,
        txn: &mut Txn,
        steps: &[Step],
        elements: &mut Elements,
    ) -> Result<(), Error> {
        self.begin();
        steps.iter().try_for_each(|step| self.step(txn, step, elements))
    }

    pub(crate) fn step(&mut self, txn: &mut Txn, step: &Step, elements: &mut Elements) -> Result<(), Error> {
        let ops = &mut self.ops;
        match step {
            Step::Append(list) => {
                let element = elements.next();
                ops.push(lists::append(txn, *list, element)?);
                ops.push(Op::Append(*list, element));
            }
            Step::Undo(lists) => {
                txn.savepoint("undo");
                for list in lists {
                    let element = elements.next();
                    lists::append(txn, *list, element)?;
                    ops.push(Op::Undone(*list, element));
                }
                txn.rollback_to("undo")?;
                ops.push(lists::read(txn, lists[0], true)?);
            }
            _ => ops.extend(read_only_step(txn, step)?),
        }
        Ok(())
    }

    pub(crate) fn into_ops(mut self) -> Vec<Op> {
        self.ops.append(&mut self.undone);
        self.ops
    }
}

/// A step as one who only reads does it.
pub(crate) fn read_only_step(source: &mut impl lists::Source, step: &Step) -> Result<Vec<Op>, Error> {
    match step {
        Step::Append(list) => Ok(vec![lists::read(source, *list, true)?]),
        Step::Read(list) => Ok(vec![lists::read(source, *list, false)?]),
        Step::Undo(lists) => lists.iter().map(|list| lists::read(source, *list, false)).collect(),
        Step::Range(lists) => lists::read_range(source, lists.clone(), lists.start.is_multiple_of(2)),
        Step::Group(group) => lists::read_group(source, *group, false),
    }
}
