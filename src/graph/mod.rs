//! The graph of needs: what has to exist before what, in an order that never changes between runs. Pure: the world
//! is asked two questions through [`World`].

mod order;

pub use order::{Ask, Dep, GraphError, Node, World, order};
