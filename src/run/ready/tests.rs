//! The ready-queue on random graphs, budgets and failures.

use proptest::prelude::*;

use super::*;

/// A random graph as (tasks, which fail), in an order of numbers that is not the order of dependencies.
pub(in crate::run) fn graph() -> impl Strategy<Value = (Vec<Task>, Vec<bool>)> {
    let task = (proptest::collection::vec(any::<prop::sample::Index>(), 0..4), 0..2500u64, 0..5u64, 0..8u8);
    (proptest::collection::vec(task, 1..40), any::<u64>()).prop_map(|(raw, seed)| {
        let count = raw.len();
        // A permutation: position in the order of dependencies → number.
        let mut numbers: Vec<usize> = (0..count).collect();
        numbers.sort_by_key(|&at| (at as u64 + 1).wrapping_mul(seed | 1).rotate_left(17));
        let mut tasks = vec![Task::default(); count];
        let mut fails = vec![false; count];
        for (at, (deps, cpu, mem, fail)) in raw.into_iter().enumerate() {
            let number = numbers[at];
            let dep = |index: prop::sample::Index| numbers[index.index(at.max(1))];
            tasks[number] = Task {
                deps: if at == 0 { Vec::new() } else { deps.into_iter().map(dep).collect() },
                weight: Weight { cpu, mem },
            };
            fails[number] = fail == 0;
        }
        (tasks, fails)
    })
}

/// Everything a task needs, itself excluded.
pub(in crate::run) fn ancestors(tasks: &[Task], number: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open = tasks[number].deps.clone();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(&tasks[next].deps);
        }
    }
    found
}

fn budget() -> impl Strategy<Value = Budget> {
    (0..6usize, 0..3000u64, 0..6u64).prop_map(|(tasks, cpu, mem)| Budget { tasks, weight: Weight { cpu, mem } })
}

fn sum(tasks: &[Task], of: &[usize]) -> Weight {
    of.iter().fold(Weight::default(), |sum, &number| sum.plus(tasks[number].weight))
}

/// Runs to the end; `pick` chooses which running task ends next. Returns the order of starts.
fn simulate(tasks: &[Task], fails: &[bool], budget: Budget, pick: &mut dyn FnMut(usize) -> usize) -> Vec<usize> {
    let mut ready = Ready::new(tasks, budget).unwrap();
    let (mut started, mut running, mut ended) = (Vec::new(), Vec::new(), BTreeSet::new());
    loop {
        while let Some(number) = ready.start_next() {
            assert!(!started.contains(&number), "{number} started twice");
            assert!(tasks[number].deps.iter().all(|dep| ended.contains(dep) && !fails[*dep]));
            started.push(number);
            running.push(number);
            let alone = running.len() == 1;
            assert!(alone || budget.holds(running.len(), sum(tasks, &running)), "over the budget: {running:?}");
            assert_eq!(ready.counts().running, running.len());
        }
        if ready.is_over() {
            break;
        }
        assert!(!running.is_empty(), "nothing runs and nothing starts");
        let number = running.remove(pick(running.len()));
        ended.insert(number);
        for skipped in ready.done(number, !fails[number]) {
            assert!(fails[number] && ancestors(tasks, skipped).contains(&number));
            assert_eq!(ready.state(skipped), Some(State::Skipped(number)));
        }
    }
    for number in 0..tasks.len() {
        let doomed = ancestors(tasks, number).iter().any(|&needed| fails[needed]);
        assert_eq!(started.contains(&number), !doomed, "task {number}");
        let expected = |state| match state {
            State::Skipped(cause) => doomed && fails[cause] && ancestors(tasks, number).contains(&cause),
            State::Failed => fails[number] && !doomed,
            State::Done => !fails[number] && !doomed,
            _ => false,
        };
        assert!(expected(ready.state(number).unwrap()), "task {number}: {:?}", ready.state(number));
    }
    started
}

proptest! {
    #[test]
    fn every_task_runs_once_in_order_and_within_the_budget(
        (tasks, fails) in graph(), budget in budget(), picks in proptest::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        let run = || {
            let mut at = 0;
            simulate(&tasks, &fails, budget, &mut |len| { at += 1; picks[at % picks.len()].index(len) })
        };
        prop_assert_eq!(run(), run(), "the same input starts in the same order");
    }

    #[test]
    fn with_one_at_a_time_the_lowest_ready_number_goes_first((tasks, _) in graph()) {
        let budget = Budget { tasks: 1, weight: Weight { cpu: 1, mem: 1 } };
        let started = simulate(&tasks, &vec![false; tasks.len()], budget, &mut |_| 0);
        let mut done = BTreeSet::new();
        for &number in &started {
            let lowest = (0..tasks.len())
                .find(|other| !done.contains(other) && tasks[*other].deps.iter().all(|dep| done.contains(dep)));
            prop_assert_eq!(Some(number), lowest);
            done.insert(number);
        }
    }

    #[test]
    fn nothing_starts_after_stop((tasks, _) in graph(), budget in budget(), after in 0..20usize) {
        let mut ready = Ready::new(&tasks, budget).unwrap();
        let mut running = Vec::new();
        for _ in 0..after {
            match ready.start_next() {
                Some(number) => running.push(number),
                None if running.is_empty() => break,
                None => { ready.done(running.remove(0), true); }
            }
        }
        ready.stop();
        for number in running {
            prop_assert_eq!(ready.start_next(), None);
            ready.done(number, true);
        }
        prop_assert_eq!(ready.start_next(), None);
        prop_assert!(ready.is_over());
    }
}

fn free(cpu: u64) -> Task {
    Task { deps: Vec::new(), weight: Weight { cpu, mem: 0 } }
}

#[test]
fn a_big_task_is_passed_over_once_and_then_waited_for() {
    let budget = Budget { tasks: 9, weight: Weight { cpu: 4000, mem: 0 } };
    // 0 runs; 1 wants all; 2.. are small and would keep the machine busy for ever.
    let tasks: Vec<Task> = [1000, 4000].into_iter().chain(std::iter::repeat_n(1000, 20)).map(free).collect();
    let mut ready = Ready::new(&tasks, budget).unwrap();
    let started: Vec<usize> = std::iter::from_fn(|| ready.start_next()).collect();
    assert_eq!(started, [0, 2], "one small task goes before it, then its place is kept");
    ready.done(0, true);
    assert_eq!(ready.start_next(), None);
    ready.done(2, true);
    assert_eq!(ready.start_next(), Some(1));
    assert_eq!(ready.start_next(), None);
    ready.done(1, true);
    assert_eq!(std::iter::from_fn(|| ready.start_next()).count(), 4);
}

#[test]
fn what_fits_beside_a_kept_place_still_starts() {
    let budget = Budget { tasks: 9, weight: Weight { cpu: 4000, mem: 0 } };
    let tasks: Vec<Task> = [2000, 3000, 1000, 1000, 1000].into_iter().map(free).collect();
    let mut ready = Ready::new(&tasks, budget).unwrap();
    assert_eq!(std::iter::from_fn(|| ready.start_next()).collect::<Vec<_>>(), [0, 2, 3]);
    ready.done(2, true);
    assert_eq!(ready.start_next(), None, "3 holds what is left beside 1");
    ready.done(0, true);
    assert_eq!(ready.start_next(), Some(1), "it did not have to wait for 3");
    assert_eq!(ready.start_next(), None);
}

#[test]
fn larger_than_the_budget_runs_alone() {
    let budget = Budget { tasks: 3, weight: Weight { cpu: 1000, mem: 0 } };
    let mut ready = Ready::new(&[free(9000), free(0)], budget).unwrap();
    assert_eq!((ready.start_next(), ready.start_next()), (Some(0), None));
    ready.done(0, false);
    assert_eq!(ready.start_next(), Some(1));
}

#[test]
fn what_cannot_be_ordered_is_refused() {
    let budget = Budget { tasks: 1, weight: Weight::default() };
    let task = |deps: &[usize]| Task { deps: deps.to_vec(), weight: Weight::default() };
    assert_eq!(Ready::new(&[task(&[7])], budget).unwrap_err(), Unordered::Unknown { task: 0, dep: 7 });
    assert_eq!(Ready::new(&[task(&[]), task(&[2]), task(&[1])], budget).unwrap_err(), Unordered::Cycle(1));
    assert!(Ready::new(&[], budget).unwrap().is_over());
}

#[test]
fn news_of_what_does_not_run_change_nothing() {
    let mut ready = Ready::new(&[free(0)], Budget { tasks: 1, weight: Weight::default() }).unwrap();
    assert!(ready.done(0, false).is_empty() && ready.done(5, true).is_empty());
    assert_eq!(ready.start_next(), Some(0));
    ready.done(0, true);
    ready.done(0, false);
    assert_eq!(ready.state(0), Some(State::Done));
}
