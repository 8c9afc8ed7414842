//! Tasks on real threads: order, budget, failures, stopping and panics.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;

use super::super::ready::tests::{ancestors, graph};
use super::super::ready::{Budget, Task, Weight};
use super::*;

const ROOMY: Weight = Weight { cpu: u64::MAX, mem: u64::MAX };

fn numbered(deps: &[&[usize]]) -> Vec<Task> {
    deps.iter().map(|deps| Task { deps: deps.to_vec(), weight: Weight::default() }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn threads_keep_order_budget_and_failures((tasks, fails) in graph(), at_once in 1..5usize, fail_fast in any::<bool>()) {
        let ready = Ready::new(&tasks, Budget { tasks: at_once, weight: ROOMY }).unwrap();
        let log = Mutex::new((Vec::new(), BTreeSet::new(), 0usize));
        let told = &mut Vec::new();
        let outcomes = run(ready, fail_fast, &|| false, &|number| {
            {
                let mut log = log.lock().unwrap();
                assert!(tasks[number].deps.iter().all(|dep| log.1.contains(dep)));
                log.0.push(number);
                log.2 += 1;
                assert!(log.2 <= at_once);
            }
            std::thread::yield_now();
            let mut log = log.lock().unwrap();
            log.2 -= 1;
            if fails[number] {
                return Err(number);
            }
            log.1.insert(number);
            Ok(number)
        }, &mut |number, cause| told.push((number, cause)));
        let started = log.into_inner().unwrap().0;
        prop_assert_eq!(started.iter().collect::<BTreeSet<_>>().len(), started.len());
        for (number, outcome) in outcomes.iter().enumerate() {
            let doomed = ancestors(&tasks, number).iter().any(|&needed| fails[needed]);
            match outcome {
                Outcome::Done(value) => prop_assert!(*value == number && !doomed && !fails[number]),
                Outcome::Failed(value) => prop_assert!(*value == number && !doomed && fails[number]),
                Outcome::Skipped { cause } => prop_assert!(doomed && told.contains(&(number, *cause))),
                Outcome::NotStarted => prop_assert!(fail_fast && fails.contains(&true)),
            }
            let ran = matches!(outcome, Outcome::Done(_) | Outcome::Failed(_));
            prop_assert_eq!(ran, started.contains(&number));
        }
    }
}

#[test]
fn independent_tasks_really_run_at_once() {
    let ready = Ready::new(&numbered(&[&[], &[]]), Budget { tasks: 2, weight: ROOMY }).unwrap();
    let meet = std::sync::Barrier::new(2);
    let outcomes = run(
        ready,
        false,
        &|| false,
        &|_| {
            meet.wait();
            Ok::<(), ()>(())
        },
        &mut |_, _| {},
    );
    assert_eq!(outcomes, [Outcome::Done(()), Outcome::Done(())]);
}

#[test]
fn stop_lets_what_runs_finish_and_starts_nothing() {
    let ready = Ready::new(&numbered(&[&[], &[], &[0]]), Budget { tasks: 1, weight: ROOMY }).unwrap();
    let stop = AtomicBool::new(false);
    let outcomes = run(
        ready,
        false,
        &|| stop.load(Ordering::Relaxed),
        &|number| {
            stop.store(true, Ordering::Relaxed);
            Ok::<_, ()>(number)
        },
        &mut |_, _| {},
    );
    assert_eq!(outcomes, [Outcome::Done(0), Outcome::NotStarted, Outcome::NotStarted]);
}

#[test]
fn a_panic_waits_for_what_runs_and_goes_on_in_the_caller() {
    let ready = Ready::new(&numbered(&[&[], &[], &[]]), Budget { tasks: 2, weight: ROOMY }).unwrap();
    let (meet, finished) = (std::sync::Barrier::new(2), AtomicUsize::new(0));
    let result = catch_unwind(AssertUnwindSafe(|| {
        run(
            ready,
            false,
            &|| false,
            &|number| {
                assert!(number < 2, "nothing starts after a panic");
                meet.wait();
                if number == 0 {
                    // Without the hook, whose trace takes longer than the other task.
                    std::panic::resume_unwind(Box::new("a defect"));
                }
                std::thread::sleep(Duration::from_millis(200));
                finished.fetch_add(1, Ordering::Relaxed);
                Ok::<(), ()>(())
            },
            &mut |_, _| {},
        )
    }));
    assert_eq!(result.unwrap_err().downcast_ref::<&str>(), Some(&"a defect"));
    assert_eq!(finished.load(Ordering::Relaxed), 1);
}

#[test]
fn a_chain_of_thousands_needs_no_deep_stack() {
    let chain: Vec<Task> = (0..5000)
        .map(|number: usize| Task { deps: number.checked_sub(1).into_iter().collect(), weight: Weight::default() })
        .collect();
    let ready = Ready::new(&chain, Budget { tasks: 4, weight: ROOMY }).unwrap();
    let outcomes = run(ready, false, &|| false, &|number| if number == 9 { Err(()) } else { Ok(()) }, &mut |_, _| {});
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Skipped { cause: 9 }).count(), 4990);
}
