//! Depth-first resolution: dependencies before dependents, declared order kept, cycles told as the whole path.

use std::collections::{HashMap, HashSet};

use crate::model::loc::Loc;
use crate::model::name::Name;
use crate::model::need::Need;

/// What a recipe asks for, and where it says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The dependency.
    pub need: Need,
    /// The line of the recipe.
    pub loc: Loc,
    /// Only while building (`#BUILDDEP`).
    pub build_only: bool,
}

/// The two questions a graph asks.
pub trait World {
    /// What can go wrong while answering (an unreadable recipe, a broken directory).
    type Error;

    /// The installed overlay that satisfies a need best, if any.
    fn installed(&self, need: &Need) -> Result<Option<Name>, Self::Error>;

    /// What the recipe of this name asks for; None when there is no recipe.
    fn asks(&self, name: &Name) -> Result<Option<Vec<Ask>>, Self::Error>;
}

/// One thing to have, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The overlay.
    pub name: Name,
    /// Its resolved dependencies in declared order.
    pub deps: Vec<Dep>,
    /// It is there and nobody asked to look closer.
    pub settled: bool,
}

/// A resolved dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dep {
    /// The overlay that satisfies it.
    pub name: Name,
    /// Only while building.
    pub build_only: bool,
}

/// A graph that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum GraphError<E> {
    /// Recipes need each other.
    #[error("dependencies form a cycle: {}", .path.iter().map(Name::to_string).collect::<Vec<_>>().join(" → "))]
    Cycle {
        /// The whole way, its first name repeated at the end.
        path: Vec<Name>,
    },
    /// Nothing installed and no recipe.
    #[error("{}unknown dependency {name}", .loc.as_ref().map(|loc| format!("{loc}: ")).unwrap_or_default())]
    Unknown {
        /// What is needed.
        name: Name,
        /// Who says so; None: the command line.
        loc: Option<Loc>,
    },
    /// The world could not answer.
    #[error(transparent)]
    World(E),
}

/// Everything the targets need, dependencies first. `deep` false leaves missing dependencies out of the building:
/// they are reported as unknown (`--no-deps`).
///
/// The way down is kept in a list, not on the stack: chains of any length can be walked.
pub fn order<W: World>(targets: &[Name], world: &W, deep: bool) -> Result<Vec<Node>, GraphError<W::Error>> {
    let mut walk = Walk {
        world,
        deep,
        nodes: Vec::new(),
        done: HashSet::new(),
        stems: HashMap::new(),
        path: Vec::new(),
        open: HashMap::new(),
    };
    for target in targets {
        walk.enter(target, None)?;
        while let Some(frame) = walk.path.last_mut() {
            match frame.asks.next() {
                Some(ask) => walk.follow(ask)?,
                None => walk.leave(),
            }
        }
    }
    Ok(walk.nodes)
}

struct Walk<'a, W: World> {
    world: &'a W,
    deep: bool,
    nodes: Vec<Node>,
    /// The names of `nodes`.
    done: HashSet<Name>,
    /// Numbers of nodes by what stands before the version, ascending: the versions that may do for a range.
    stems: HashMap<String, Vec<usize>>,
    /// The way from a target to where we are, and each name's place on it.
    path: Vec<Frame>,
    open: HashMap<Name, usize>,
}

/// A recipe whose dependencies are being looked at.
struct Frame {
    name: Name,
    asks: std::vec::IntoIter<Ask>,
    deps: Vec<Dep>,
}

impl<W: World> Walk<'_, W> {
    /// Goes down to `name`, unless all is known about it; `loc` is where it is asked for.
    fn enter(&mut self, name: &Name, loc: Option<&Loc>) -> Result<(), GraphError<W::Error>> {
        if self.done.contains(name) {
            return Ok(());
        }
        if let Some(&start) = self.open.get(name) {
            let open = self.path.iter().skip(start).map(|frame| &frame.name);
            return Err(GraphError::Cycle { path: open.chain([name]).cloned().collect() });
        }
        let Some(asks) = self.world.asks(name).map_err(GraphError::World)? else {
            return Err(GraphError::Unknown { name: name.clone(), loc: loc.cloned() });
        };
        self.open.insert(name.clone(), self.path.len());
        self.path.push(Frame { name: name.clone(), deps: Vec::with_capacity(asks.len()), asks: asks.into_iter() });
        Ok(())
    }

    /// Finds what satisfies one dependency of the lowest frame.
    fn follow(&mut self, ask: Ask) -> Result<(), GraphError<W::Error>> {
        let name = match self.planned(&ask.need) {
            Some(name) => name,
            None => match self.installed(&ask.need)? {
                Some(name) => name,
                None if self.deep => ask.need.name,
                None => return Err(GraphError::Unknown { name: ask.need.name, loc: Some(ask.loc) }),
            },
        };
        if let Some(frame) = self.path.last_mut() {
            frame.deps.push(Dep { name: name.clone(), build_only: ask.build_only });
        }
        self.enter(&name, Some(&ask.loc))
    }

    /// The first node that will do.
    fn planned(&self, need: &Need) -> Option<Name> {
        if need.min.is_none() {
            return self.done.contains(&need.name).then(|| need.name.clone());
        }
        let numbers = self.stems.get(&need.name.stem())?;
        numbers
            .iter()
            .filter_map(|number| self.nodes.get(*number))
            .map(|node| &node.name)
            .find(|name| need.satisfied_by(name))
            .cloned()
    }

    fn installed(&mut self, need: &Need) -> Result<Option<Name>, GraphError<W::Error>> {
        let found = self.world.installed(need).map_err(GraphError::World)?;
        let found = found.filter(|name| !self.open.contains_key(name));
        if let Some(name) = &found {
            self.finish(Node { name: name.clone(), deps: Vec::new(), settled: true });
        }
        Ok(found)
    }

    fn leave(&mut self) {
        if let Some(Frame { name, deps, .. }) = self.path.pop() {
            self.open.remove(&name);
            self.finish(Node { name, deps, settled: false });
        }
    }

    fn finish(&mut self, node: Node) {
        if self.done.insert(node.name.clone()) {
            self.stems.entry(node.name.stem()).or_default().push(self.nodes.len());
            self.nodes.push(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recipes as "name: dep dep"; names that begin with + are installed.
    struct Small(Vec<(&'static str, &'static str)>, Vec<&'static str>);

    impl World for Small {
        type Error = ();

        fn installed(&self, need: &Need) -> Result<Option<Name>, ()> {
            Ok(self.1.iter().map(|name| name.parse::<Name>().unwrap()).find(|name| need.satisfied_by(name)))
        }

        fn asks(&self, name: &Name) -> Result<Option<Vec<Ask>>, ()> {
            let found = self.0.iter().find(|(own, _)| *own == name.to_string());
            let ask = |need: &str| Ask { need: need.parse().unwrap(), loc: Loc::new("r", 3, 1), build_only: false };
            Ok(found.map(|(_, deps)| deps.split_whitespace().map(ask).collect()))
        }
    }

    fn names(world: &Small, targets: &[&str]) -> Result<Vec<String>, String> {
        let targets: Vec<Name> = targets.iter().map(|name| name.parse().unwrap()).collect();
        match order(&targets, world, true) {
            Ok(nodes) => Ok(nodes.iter().map(|node| node.name.to_string()).collect()),
            Err(GraphError::World(())) => Err("world".into()),
            Err(GraphError::Cycle { path }) => Err(path.iter().map(Name::to_string).collect::<Vec<_>>().join(" → ")),
            Err(GraphError::Unknown { name, loc }) => Err(format!("{name} at {loc:?}")),
        }
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let world = Small(vec![("d/1", "b/1 c/1"), ("b/1", "a/1"), ("c/1", "a/1"), ("a/1", "")], vec![]);
        assert_eq!(names(&world, &["d/1", "c/1"]).unwrap(), ["a/1", "b/1", "c/1", "d/1"]);
    }

    #[test]
    fn a_cycle_is_told_whole() {
        let world = Small(vec![("x/1", "a/1"), ("a/1", "b/1"), ("b/1", "c/1"), ("c/1", "a/1")], vec![]);
        assert_eq!(names(&world, &["x/1"]).unwrap_err(), "a/1 → b/1 → c/1 → a/1");
        assert_eq!(names(&Small(vec![("a/1", "a/1")], vec![]), &["a/1"]).unwrap_err(), "a/1 → a/1");
    }

    #[test]
    fn an_installed_version_in_range_satisfies() {
        let world = Small(vec![("a/1", "s/2>=1"), ("s/2", "")], vec!["s/1.5"]);
        assert_eq!(names(&world, &["a/1"]).unwrap(), ["s/1.5", "a/1"]);
        let world = Small(vec![("a/1", "s/2>=1"), ("s/2", "")], vec!["s/2.5"]);
        assert_eq!(names(&world, &["a/1"]).unwrap(), ["s/2", "a/1"]);
    }

    /// `n/5000` needs `n/4999`, and so on.
    struct Chain;

    impl World for Chain {
        type Error = ();

        fn installed(&self, _: &Need) -> Result<Option<Name>, ()> {
            Ok(None)
        }

        fn asks(&self, name: &Name) -> Result<Option<Vec<Ask>>, ()> {
            let number: usize = name.version().parse().unwrap();
            let need = |below: usize| format!("n/{below}>={below}").parse().unwrap();
            let ask = |below| Ask { need: need(below), loc: Loc::new("r", 1, 1), build_only: false };
            Ok(Some(number.checked_sub(1).map(ask).into_iter().collect()))
        }
    }

    #[test]
    fn a_chain_of_thousands_needs_no_deep_stack() {
        let small = std::thread::Builder::new().stack_size(64 << 10);
        let walked =
            small.spawn(|| order(&["n/5000".parse().unwrap()], &Chain, true).unwrap()).unwrap().join().unwrap();
        assert_eq!(walked.len(), 5001);
        assert!(walked.windows(2).all(|pair| pair[1].deps[0].name == pair[0].name));
    }

    #[test]
    fn a_planned_version_in_range_satisfies_before_an_installed_one() {
        let world = Small(vec![("a/1", "s/1.5 t/1"), ("t/1", "s/2>=1"), ("s/1.5", "")], vec!["s/1.8"]);
        assert_eq!(names(&world, &["a/1"]).unwrap(), ["s/1.5", "t/1", "a/1"]);
    }

    #[test]
    fn without_depth_the_missing_is_unknown() {
        let world = Small(vec![("a/1", "b/1"), ("b/1", "")], vec![]);
        assert!(matches!(
            order(&["a/1".parse().unwrap()], &world, false),
            Err(GraphError::Unknown { loc: Some(_), .. })
        ));
    }

    #[test]
    fn the_unknown_is_named_with_its_place() {
        let world = Small(vec![("a/1", "nope/1")], vec![]);
        assert!(names(&world, &["a/1"]).unwrap_err().starts_with("nope/1 at Some(Loc { file: \"r\", line: 3"));
    }
}
