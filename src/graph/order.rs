//! Depth-first resolution: dependencies before dependents, declared order kept, cycles told as the whole path.

use std::collections::BTreeMap;

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
pub fn order<W: World>(targets: &[Name], world: &W, deep: bool) -> Result<Vec<Node>, GraphError<W::Error>> {
    let mut walk = Walk { world, deep, done: BTreeMap::new(), path: Vec::new(), nodes: Vec::new() };
    for target in targets {
        walk.visit(target)?;
    }
    Ok(walk.nodes)
}

struct Walk<'a, W: World> {
    world: &'a W,
    deep: bool,
    done: BTreeMap<Name, ()>,
    path: Vec<Name>,
    nodes: Vec<Node>,
}

impl<W: World> Walk<'_, W> {
    fn visit(&mut self, name: &Name) -> Result<(), GraphError<W::Error>> {
        if self.done.contains_key(name) {
            return Ok(());
        }
        if let Some(start) = self.path.iter().position(|open| open == name) {
            let mut path = self.path[start..].to_vec();
            path.push(name.clone());
            return Err(GraphError::Cycle { path });
        }
        let Some(asks) = self.world.asks(name).map_err(GraphError::World)? else {
            return Err(GraphError::Unknown { name: name.clone(), loc: None });
        };
        self.path.push(name.clone());
        let mut deps = Vec::new();
        for ask in asks {
            deps.push(Dep { name: self.dependency(&ask)?, build_only: ask.build_only });
        }
        self.path.pop();
        self.finish(Node { name: name.clone(), deps, settled: false });
        Ok(())
    }

    fn dependency(&mut self, ask: &Ask) -> Result<Name, GraphError<W::Error>> {
        let planned = self.nodes.iter().find(|node| ask.need.satisfied_by(&node.name)).map(|node| node.name.clone());
        if let Some(name) = planned {
            return Ok(name);
        }
        if let Some(name) =
            self.world.installed(&ask.need).map_err(GraphError::World)?.filter(|name| !self.path.contains(name))
        {
            if !self.done.contains_key(&name) {
                self.finish(Node { name: name.clone(), deps: Vec::new(), settled: true });
            }
            return Ok(name);
        }
        let unknown = || GraphError::Unknown { name: ask.need.name.clone(), loc: Some(ask.loc.clone()) };
        if !self.deep {
            return Err(unknown());
        }
        match self.visit(&ask.need.name) {
            Err(GraphError::Unknown { loc: None, .. }) => Err(unknown()),
            other => other.map(|()| ask.need.name.clone()),
        }
    }

    fn finish(&mut self, node: Node) {
        self.done.insert(node.name.clone(), ());
        self.nodes.push(node);
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

    #[test]
    fn the_unknown_is_named_with_its_place() {
        let world = Small(vec![("a/1", "nope/1")], vec![]);
        assert!(names(&world, &["a/1"]).unwrap_err().starts_with("nope/1 at Some(Loc { file: \"r\", line: 3"));
    }
}
