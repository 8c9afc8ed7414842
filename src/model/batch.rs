//! What a user's script asks for beside what a build does: tasks, an array, names and outputs, what it waits for.

use serde::{Deserialize, Serialize};

use super::resources::{Figure, JobId, Mem};

/// What the directives of a script say that those of a build must not. None: nobody said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asks {
    /// Nodes.
    pub nodes: Option<Figure<u32>>,
    /// Tasks (MPI ranks) on all nodes together.
    pub tasks: Option<Figure<u32>>,
    /// Tasks on each node.
    pub per_node: Option<Figure<u32>>,
    /// The job's name.
    pub name: Option<Figure<String>>,
    /// Where standard output goes, as a [`crate::sched::pattern`].
    pub output: Option<Figure<String>>,
    /// Where standard error goes; unset: to the same file.
    pub error: Option<Figure<String>>,
    /// Where it runs.
    pub cwd: Option<Figure<String>>,
    /// An array that the directives ask for, in the words of its scheduler.
    pub array: Option<Figure<String>>,
    /// What the directives wait for, in the words of its scheduler.
    pub after: Option<Figure<String>>,
}

impl Asks {
    /// What `self` says, and where it says nothing, what `other` does.
    #[must_use]
    pub fn or(self, other: Asks) -> Asks {
        // A new number of tasks is spread anew.
        let per_node = if self.tasks.is_some() { None } else { other.per_node };
        Asks {
            nodes: self.nodes.or(other.nodes),
            tasks: self.tasks.or(other.tasks),
            per_node: self.per_node.or(per_node),
            name: self.name.or(other.name),
            output: self.output.or(other.output),
            error: self.error.or(other.error),
            cwd: self.cwd.or(other.cwd),
            array: self.array.or(other.array),
            after: self.after.or(other.after),
        }
    }

    /// The shape that is asked for; an error where the figures contradict each other.
    pub fn shape(&self) -> Result<Shape, String> {
        let value = |figure: &Option<Figure<u32>>| figure.as_ref().map(|figure| figure.value);
        let (nodes, tasks, per_node) = (value(&self.nodes), value(&self.tasks), value(&self.per_node));
        let shape = match (nodes, tasks, per_node) {
            (None, None, None) => Shape::default(),
            (nodes, None, None) => Shape { nodes: nodes.unwrap_or(1), tasks: nodes.unwrap_or(1), ..Shape::default() },
            (nodes, None, Some(each)) => {
                let nodes = nodes.unwrap_or(1);
                let tasks = nodes.checked_mul(each).ok_or_else(|| "too many tasks".to_owned())?;
                Shape { nodes, tasks, per_node: Some(each), spread: false }
            }
            (None, Some(tasks), None) => Shape { tasks, spread: tasks > 1, ..Shape::default() },
            (None, Some(tasks), Some(each)) => {
                Shape { nodes: tasks.div_ceil(each.max(1)).max(1), tasks, per_node: Some(each), spread: false }
            }
            (Some(nodes), Some(tasks), per_node) => Shape { nodes, tasks, per_node, spread: false },
        };
        if shape.nodes == 0 || shape.tasks == 0 || shape.per_node == Some(0) {
            return Err("a job has at least one node and one task".to_owned());
        }
        if shape.tasks < shape.nodes {
            return Err(format!("{} nodes are more than the {} tasks", shape.nodes, shape.tasks));
        }
        if let Some(each) = shape.per_node
            && u64::from(each) * u64::from(shape.nodes) < u64::from(shape.tasks)
        {
            return Err(format!("{} tasks do not fit {} nodes with {each} on each", shape.tasks, shape.nodes));
        }
        Ok(shape)
    }
}

/// How a job's tasks lie on nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Nodes, at least 1.
    pub nodes: u32,
    /// Tasks on all of them together, at least one for each.
    pub tasks: u32,
    /// Tasks on each, where somebody said so.
    pub per_node: Option<u32>,
    /// Several tasks, and nobody said on how many nodes: the scheduler may spread them.
    pub spread: bool,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape { nodes: 1, tasks: 1, per_node: None, spread: false }
    }
}

impl Shape {
    /// Tasks on the fullest node.
    pub fn most_per_node(&self) -> u32 {
        self.chunks().into_iter().map(|(_, each)| each).max().unwrap_or(1)
    }

    /// Kinds of nodes: how many of them, and the tasks on each. Their tasks add up.
    pub fn chunks(&self) -> Vec<(u32, u32)> {
        let nodes = self.nodes.max(1);
        // What fits fewer nodes than are asked for is the most on each: then all nodes are used alike.
        let full = |each: &u32| *each > 0 && self.tasks.div_ceil(*each) == nodes;
        let all = match self.per_node.filter(full) {
            Some(each) => [(self.tasks / each, each), (u32::from(!self.tasks.is_multiple_of(each)), self.tasks % each)],
            None => {
                let (each, more) = (self.tasks / nodes, self.tasks % nodes);
                [(more, each + 1), (nodes - more, each)]
            }
        };
        all.into_iter().filter(|(count, each)| *count > 0 && *each > 0).collect()
    }
}

/// A job array with tasks numbered from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Array {
    /// Its tasks.
    pub count: u32,
    /// How many may run at once.
    pub limit: Option<u32>,
}

/// What a job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// The other has succeeded.
    Ok,
    /// The other has failed.
    NotOk,
    /// The other is over.
    Any,
}

impl When {
    /// The flag, and the word of Slurm and PBS.
    pub fn word(self) -> &'static str {
        match self {
            When::Ok => "afterok",
            When::NotOk => "afternotok",
            When::Any => "afterany",
        }
    }
}

/// A job that another waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// Until when.
    pub when: When,
    /// Which.
    pub job: JobId,
}

/// What a job really has, as far as its surroundings tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Granted {
    /// Nodes.
    pub nodes: Option<u32>,
    /// Tasks on all nodes.
    pub tasks: Option<u32>,
    /// Tasks on each node (on the fullest, where they differ).
    pub per_node: Option<u32>,
    /// CPUs of each task.
    pub cpus: Option<u32>,
    /// Memory on each node, in bytes.
    pub mem: Option<u64>,
}

impl Granted {
    /// What `self` knows, and where it does not, what `other` does.
    #[must_use]
    pub fn or(self, other: Granted) -> Granted {
        Granted {
            nodes: self.nodes.or(other.nodes),
            tasks: self.tasks.or(other.tasks),
            per_node: self.per_node.or(other.per_node),
            cpus: self.cpus.or(other.cpus),
            mem: self.mem.or(other.mem),
        }
    }

    /// What was asked for.
    pub fn asked(shape: &Shape, cpus: Option<u32>, mem: Option<u64>) -> Granted {
        Granted { nodes: Some(shape.nodes), tasks: Some(shape.tasks), per_node: Some(shape.most_per_node()), cpus, mem }
    }

    /// The variables that the script sees. `MEM` is in MB (1024²), `MEM_GB` in whole GB, at least 1.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let mut all = Vec::new();
        for (name, value) in
            [("NNODES", self.nodes), ("NTASKS", self.tasks), ("NTASKS_PER_NODE", self.per_node), ("NCPUS", self.cpus)]
        {
            all.extend(value.map(|value| (name, value.to_string())));
        }
        if let Some(mem) = self.mem {
            all.push(("MEM", (mem >> 20).max(1).to_string()));
            all.push(("MEM_GB", (mem >> 30).max(1).to_string()));
        }
        all
    }
}

/// Memory on one node, in bytes: `asked` for a task of `cpus` CPUs, on a node with `per_node` of them.
pub fn mem_per_node(asked: Mem, cpus: u32, per_node: u32) -> Option<u64> {
    match asked {
        Mem::Total(bytes) => Some(bytes),
        Mem::PerCpu(bytes) => bytes.checked_mul(cpus.into())?.checked_mul(per_node.into()),
        Mem::Node => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::resources::Source;
    use super::*;

    fn asks(nodes: u32, tasks: u32, per_node: u32) -> Asks {
        let some = |value: u32| (value > 0).then(|| Figure::new(value, Source::Flag("x".into())));
        Asks { nodes: some(nodes), tasks: some(tasks), per_node: some(per_node), ..Asks::default() }
    }

    #[test]
    fn shapes_are_completed_or_refused() {
        for ((nodes, tasks, per_node), expected) in [
            ((0, 0, 0), Ok((1, 1))),
            ((2, 0, 0), Ok((2, 2))),
            ((2, 0, 4), Ok((2, 8))),
            ((0, 4, 0), Ok((1, 4))),
            ((0, 5, 2), Ok((3, 5))),
            ((2, 4, 0), Ok((2, 4))),
            ((0, 0, 3), Ok((1, 3))),
            ((4, 2, 0), Err(())),
            ((2, 9, 4), Err(())),
        ] {
            let shape = asks(nodes, tasks, per_node).shape();
            assert_eq!(shape.map(|s| (s.nodes, s.tasks)).map_err(drop), expected, "{nodes} {tasks} {per_node}");
        }
        assert_eq!(asks(2, 5, 0).shape().unwrap().chunks(), [(1, 3), (1, 2)]);
        assert_eq!(asks(0, 5, 2).shape().unwrap().chunks(), [(2, 2), (1, 1)]);
        assert_eq!(asks(0, 3, 0).shape().unwrap().chunks(), [(1, 3)]);
        let four = asks(4, 8, 4).shape().unwrap();
        assert_eq!((four.chunks(), four.most_per_node()), (vec![(4, 2)], 2));
        assert_eq!(asks(3, 8, 4).shape().unwrap().chunks(), [(2, 3), (1, 2)]);
        let huge = asks(u32::MAX, 0, u32::MAX);
        assert!(huge.shape().is_err());
        // A flag -n wins over the tasks per node of the directives, not over their nodes.
        assert_eq!(asks(0, 4, 0).or(asks(2, 0, 1)).shape().unwrap(), Shape { nodes: 2, tasks: 4, ..Shape::default() });
    }

    #[test]
    fn variables_of_what_is_known() {
        let granted = Granted::asked(&asks(2, 4, 0).shape().unwrap(), Some(3), Some(1536 << 20));
        let text: Vec<String> = granted.variables().iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(text, ["NNODES=2", "NTASKS=4", "NTASKS_PER_NODE=2", "NCPUS=3", "MEM=1536", "MEM_GB=1"]);
        assert!(Granted::default().variables().is_empty());
        assert_eq!(mem_per_node(Mem::PerCpu(1 << 20), 2, 3), Some(6 << 20));
    }
}
