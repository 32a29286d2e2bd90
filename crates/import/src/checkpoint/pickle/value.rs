//! What a pickle is made of, as plain data: values refer to each other by number, so that cycles and sharing cost nothing.

use crate::checkpoint::entry::Dtype;

/// Values of one pickle.
pub(crate) const VALUES: usize = 500_000;
/// Bytes of texts and lists of one pickle: what was remembered can be copied many times.
const HEAP: usize = 48 << 20;

/// A value's number.
pub(crate) type Id = u32;

/// One value.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits.
    Large,
    Float(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    /// A list, tuple or set.
    List(Vec<Id>),
    /// A mapping, in its order.
    Dict(Vec<(Id, Id)>),
    /// A class or function, of which only the dotted name counts.
    Global(Box<str>),
    /// What a class or function that is not known here would have made.
    Object(Box<Object>),
    Storage(Box<Stored>),
    Tensor(Box<View>),
}

/// An object that was never made: its class, and what its class would have been given.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// The class or function: a [`Node::Global`] or another object.
    pub(crate) class: Id,
    /// The arguments of its construction, a list.
    pub(crate) arguments: Id,
    /// Its attributes.
    pub(crate) state: Option<Id>,
    /// What was appended to it.
    pub(crate) items: Vec<Id>,
    /// What was set in it.
    pub(crate) entries: Vec<(Id, Id)>,
}

/// A storage, by its name in the file.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) key: Box<str>,
    /// None: bytes of which the tensor says the type.
    pub(crate) dtype: Option<Dtype>,
    /// Its first number's place in the file's storage: the old format has views of storages.
    pub(crate) offset: u64,
    /// How many numbers it has.
    pub(crate) count: u64,
}

/// A tensor: a view of a storage.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// A [`Node::Storage`].
    pub(crate) storage: Id,
    pub(crate) dtype: Dtype,
    /// In numbers.
    pub(crate) offset: u64,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<u64>,
}

/// All values of a pickle.
#[derive(Debug, Default)]
pub(crate) struct Values {
    nodes: Vec<Node>,
    heap: usize,
}

/// Bytes that a value has beside its place among the values, roughly.
fn weight(node: &Node) -> usize {
    match node {
        Node::Text(text) | Node::Global(text) => text.len(),
        Node::Bytes(bytes) => bytes.len(),
        Node::List(items) => size_of_val(items.as_slice()),
        Node::Dict(entries) => size_of_val(entries.as_slice()),
        Node::Object(_) => size_of::<Object>(),
        Node::Storage(stored) => size_of::<Stored>() + stored.key.len(),
        Node::Tensor(view) => size_of::<View>() + 2 * size_of_val(view.strides.as_slice()),
        _ => 0,
    }
}

impl Values {
    /// Adds one.
    pub(crate) fn add(&mut self, node: Node) -> Result<Id, String> {
        self.heap += weight(&node);
        if self.nodes.len() == VALUES || self.heap > HEAP {
            return Err(format!("more than {VALUES} values, or more than {HEAP} bytes of them"));
        }
        self.nodes.push(node);
        Ok((self.nodes.len() - 1) as Id)
    }

    /// Every value, in the order in which they were made.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub(crate) fn get(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    pub(crate) fn get_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// The elements of a list; none for other values.
    pub(crate) fn list(&self, id: Id) -> Option<&[Id]> {
        if let Node::List(items) = self.get(id) { Some(items) } else { None }
    }

    pub(crate) fn text(&self, id: Id) -> Option<&str> {
        if let Node::Text(text) = self.get(id) { Some(text) } else { None }
    }

    pub(crate) fn int(&self, id: Id) -> Option<u64> {
        if let Node::Int(n) = self.get(id) { u64::try_from(*n).ok() } else { None }
    }

    /// The dotted name of a class or function.
    pub(crate) fn global(&self, id: Id) -> Option<&str> {
        if let Node::Global(name) = self.get(id) { Some(name) } else { None }
    }

    /// The value of a mapping under a text; the last, if there are several.
    pub(crate) fn item(&self, id: Id, key: &str) -> Option<Id> {
        let Node::Dict(entries) = self.get(id) else { return None };
        entries.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, value)| *value)
    }
}
