//! The named points, met by a simulated cluster.

use crate::cluster::simulate;
use crate::rules::come_back_by_snapshot;
use mux_raft::fault::{self, POINTS};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// Only an archive on disk meets these.
const OF_A_DISK: [&str; 3] = ["archive.write", "archive.written", "archive.delete"];

#[test]
fn a_simulated_cluster_meets_every_point() {
    let met = Rc::new(RefCell::new(BTreeSet::new()));
    let hook = Rc::clone(&met);
    fault::on_this_thread(Some(Rc::new(move |name| {
        hook.borrow_mut().insert(name);
    })));
    simulate(come_back_by_snapshot());
    fault::on_this_thread(None);
    let expected: BTreeSet<&str> =
        POINTS.iter().map(|(name, _)| *name).filter(|name| !OF_A_DISK.contains(name)).collect();
    assert_eq!(*met.borrow(), expected);
}

/// What a driver of crashes does: what runs at the point is ended there, and nothing after it happens.
#[test]
fn a_hook_that_panics_at_a_point_ends_what_was_being_done_there() {
    let written = Rc::new(Cell::new(false));
    let hook = Rc::clone(&written);
    fault::on_this_thread(Some(Rc::new(move |name| match name {
        "test.first" => panic!("crash"),
        _ => hook.set(true),
    })));
    let ended = catch_unwind(AssertUnwindSafe(|| {
        fault::point("test.first");
        fault::point("test.second");
    }));
    fault::on_this_thread(None);
    assert!(ended.is_err() && !written.get());
}
