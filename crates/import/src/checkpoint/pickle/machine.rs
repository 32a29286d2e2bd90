//! Python's pickle machine, protocols 0 to 5, which builds data and nothing else: no class is looked up, no function is called.
//!
//! Source: `pickletools` of Python's standard library.

use std::{collections::HashMap, io::Read};

use super::{
    globals,
    value::{Id, Node, Object, VALUES, Values},
};
use crate::checkpoint::source::Cursor;

/// Bytes of a pickle.
pub(crate) const BYTES: u64 = 32 << 20;
/// Instructions of a pickle.
const STEPS: usize = 2_000_000;
/// Bytes of a line of text in the old protocols.
const LINE: usize = 4096;

/// The state of the machine.
struct Machine<'a, 'b> {
    input: &'a mut Cursor<'b>,
    /// Bytes that may yet be read.
    budget: u64,
    values: Values,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

/// Reads one pickle from where the cursor is, and leaves it behind its end: all values, and which of them is the whole.
pub(crate) fn load(input: &mut Cursor<'_>) -> Result<(Values, Id), String> {
    let start = input.position();
    let (values, budget) = (Values::default(), BYTES);
    let mut machine = Machine { input, budget, values, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    for _ in 0..STEPS {
        let at = machine.input.position() - start;
        let opcode = machine.bytes::<1>()?[0];
        match machine.step(opcode) {
            Ok(false) => {}
            Ok(true) => {
                let whole = machine.pop()?;
                return Ok((machine.values, whole));
            }
            Err(reason) => return Err(format!("{reason}, at byte {at} of a pickle")),
        }
    }
    Err(format!("more than {STEPS} instructions in a pickle"))
}

impl Machine<'_, '_> {
    /// Does one instruction; true at the end.
    fn step(&mut self, opcode: u8) -> Result<bool, String> {
        match opcode {
            b'.' => return Ok(true),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.above_mark()?),
            b'2' => self.stack.push(self.top()?),
            0x80 => drop(self.bytes::<1>()?),
            0x95 => drop(self.bytes::<8>()?),
            b'b' | b'R' | b'a' | b'e' | b's' | b'u' | 0x81 | 0x90 | 0x92 => self.build(opcode)?,
            b'p' | b'q' | b'r' | b'g' | b'h' | b'j' | 0x94 => self.remember(opcode)?,
            b't' | b'l' | b'd' | b')' | b']' | b'}' | 0x85..=0x87 | 0x8f | 0x91 => self.collect(opcode)?,
            b'c' | b'i' | b'o' | b'Q' | 0x93 => self.name(opcode)?,
            b'S' | b'T' | b'U' | b'V' | b'X' | b'B' | b'C' | 0x8c..=0x8e | 0x96 => self.text(opcode)?,
            _ => self.number(opcode)?,
        }
        Ok(false)
    }

    /// Numbers and constants.
    fn number(&mut self, opcode: u8) -> Result<(), String> {
        let node = match opcode {
            b'N' => Node::None,
            0x88 => Node::Bool(true),
            0x89 => Node::Bool(false),
            b'K' => Node::Int(self.bytes::<1>()?[0].into()),
            b'M' => Node::Int(u16::from_le_bytes(self.bytes()?).into()),
            b'J' => Node::Int(i32::from_le_bytes(self.bytes()?).into()),
            b'G' => Node::Float(f64::from_be_bytes(self.bytes()?)),
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'I' | b'L' => {
                let line = self.line()?;
                match (line.as_str(), opcode) {
                    ("00", b'I') => Node::Bool(false),
                    ("01", b'I') => Node::Bool(true),
                    _ => line.trim_end_matches('L').parse().map_or(Node::Large, Node::Int),
                }
            }
            b'F' => Node::Float(self.line()?.parse().map_err(|_| "a number that is none".to_owned())?),
            _ => return Err(format!("unknown instruction 0x{opcode:02x}")),
        };
        self.push(node)
    }

    /// An integer of any size, behind `width` bytes with its length.
    fn long(&mut self, width: usize) -> Result<Node, String> {
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        let Some(last) = bytes.last() else { return Ok(Node::Int(0)) };
        let fill = if last & 0x80 == 0 { 0 } else { 0xff };
        let Some(extra) = size_of::<i64>().checked_sub(bytes.len()) else { return Ok(Node::Large) };
        let mut all = bytes.clone();
        all.extend(std::iter::repeat_n(fill, extra));
        Ok(Node::Int(i64::from_le_bytes(all.try_into().expect("it was filled up to 8 bytes"))))
    }

    /// Text and bytes.
    fn text(&mut self, opcode: u8) -> Result<(), String> {
        let length = match opcode {
            b'S' | b'V' => {
                let line = self.line()?;
                let quoted = |q| line.strip_prefix(q).and_then(|l| l.strip_suffix(q));
                let text = quoted('\'').or_else(|| quoted('"')).unwrap_or(&line);
                let node = Node::Text(text.into());
                return self.push(node);
            }
            b'U' | b'C' | 0x8c => self.length(1)?,
            b'T' | b'X' | b'B' => self.length(4)?,
            _ => self.length(8)?,
        };
        let bytes = self.take(length)?;
        let node = match opcode {
            b'B' | b'C' | 0x8e | 0x96 => Node::Bytes(bytes.into()),
            _ => Node::Text(String::from_utf8_lossy(&bytes).into()),
        };
        self.push(node)
    }

    /// Lists, tuples, sets and mappings.
    fn collect(&mut self, opcode: u8) -> Result<(), String> {
        let node = match opcode {
            b')' | b']' | 0x8f => Node::List(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let start = self.floor_for(count)?;
                Node::List(self.stack.split_off(start))
            }
            b'd' => Node::Dict(pairs(&self.above_mark()?)?),
            _ => Node::List(self.above_mark()?),
        };
        self.push(node)
    }

    /// What adds to a value or makes one of others.
    fn build(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            b'a' => {
                let item = self.pop()?;
                self.extend(&[item])
            }
            b'e' | 0x90 => {
                let items = self.above_mark()?;
                self.extend(&items)
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[(key, value)])
            }
            b'u' => {
                let entries = pairs(&self.above_mark()?)?;
                self.set(&entries)
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                if let Node::Object(object) = self.values.get_mut(target) {
                    object.state = Some(state);
                }
                Ok(())
            }
            _ => {
                // Of the arguments by keyword of 0x92, nothing that is read here has any.
                if opcode == 0x92 {
                    self.pop()?;
                }
                let arguments = self.pop()?;
                let class = self.pop()?;
                self.call(class, arguments)
            }
        }
    }

    fn call(&mut self, class: Id, arguments: Id) -> Result<(), String> {
        let made = globals::call(&mut self.values, class, arguments)?;
        self.stack.push(made);
        Ok(())
    }

    fn extend(&mut self, items: &[Id]) -> Result<(), String> {
        let target = self.top()?;
        match self.values.get_mut(target) {
            Node::List(list) => list.extend(items),
            Node::Object(object) => object.items.extend(items),
            _ => return Err("something is appended to what is no list".into()),
        }
        Ok(())
    }

    fn set(&mut self, entries: &[(Id, Id)]) -> Result<(), String> {
        let target = self.top()?;
        match self.values.get_mut(target) {
            Node::Dict(dict) => dict.extend(entries),
            Node::Object(object) => object.entries.extend(entries),
            _ => return Err("something is set in what is no mapping".into()),
        }
        Ok(())
    }

    /// The memo: values by number.
    fn remember(&mut self, opcode: u8) -> Result<(), String> {
        let text = matches!(opcode, b'p' | b'g');
        let index = match opcode {
            0x94 => self.memo.len() as u32,
            _ if text => self.line()?.parse().map_err(|_| "a place in the memo that is none".to_owned())?,
            b'q' | b'h' => self.bytes::<1>()?[0].into(),
            _ => u32::from_le_bytes(self.bytes()?),
        };
        if matches!(opcode, b'g' | b'h' | b'j') {
            let known = self.memo.get(&index).ok_or_else(|| format!("nothing was remembered as {index}"))?;
            self.stack.push(*known);
        } else if self.memo.len() < VALUES {
            self.memo.insert(index, self.top()?);
        } else {
            return Err(format!("more than {VALUES} values are remembered"));
        }
        Ok(())
    }

    /// Classes and functions by name, objects of old, and what lies outside of the pickle.
    fn name(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            b'c' => {
                let name = format!("{}.{}", self.line()?, self.line()?);
                self.push(Node::Global(name.into()))
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (self.values.text(module), self.values.text(name)) else {
                    return Err("a class whose name is no text".into());
                };
                if module.len().max(name.len()) > LINE {
                    return Err(format!("a name of more than {LINE} bytes"));
                }
                let node = Node::Global(format!("{module}.{name}").into());
                self.push(node)
            }
            b'Q' => {
                let id = self.pop()?;
                let made = globals::persistent(&mut self.values, id)?;
                self.stack.push(made);
                Ok(())
            }
            _ => {
                let named = if opcode == b'i' { Some(format!("{}.{}", self.line()?, self.line()?)) } else { None };
                let mut arguments = self.above_mark()?;
                let class = match named {
                    Some(name) => self.values.add(Node::Global(name.into()))?,
                    None if arguments.is_empty() => return Err("an object without a class".into()),
                    None => arguments.remove(0),
                };
                let arguments = self.values.add(Node::List(arguments))?;
                self.push(Node::Object(Box::new(Object::new(class, arguments))))
            }
        }
    }

    fn push(&mut self, node: Node) -> Result<(), String> {
        let id = self.values.add(node)?;
        self.stack.push(id);
        Ok(())
    }

    /// Where the last `count` values of the stack begin, none of them below a mark.
    fn floor_for(&self, count: usize) -> Result<usize, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(count).filter(|start| *start >= floor);
        start.ok_or_else(|| "a value is asked for that is not there".into())
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.floor_for(1)?;
        Ok(self.stack.pop().expect("there is one"))
    }

    fn top(&self) -> Result<Id, String> {
        Ok(self.stack[self.floor_for(1)?])
    }

    /// Takes what lies above the last mark.
    fn above_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("a mark is asked for that is not there")?;
        Ok(self.stack.split_off(mark))
    }

    fn spend(&mut self, bytes: u64) -> Result<(), String> {
        if bytes > self.input.left() {
            return Err("it ends in the middle".into());
        }
        self.budget = self.budget.checked_sub(bytes).ok_or_else(|| format!("more than {BYTES} bytes in a pickle"))?;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.spend(N as u64)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    /// A length of `width` bytes, the lowest first.
    fn length(&mut self, width: usize) -> Result<u64, String> {
        let mut length = 0;
        for i in 0..width {
            length |= u64::from(self.bytes::<1>()?[0]) << (8 * i);
        }
        Ok(length)
    }

    fn take(&mut self, length: u64) -> Result<Vec<u8>, String> {
        self.spend(length)?;
        let mut bytes = vec![0; length as usize];
        self.input.read_exact(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    /// Text up to the end of a line.
    fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        loop {
            match self.bytes::<1>()? {
                [b'\n'] => return String::from_utf8(line).map_err(|_| "a line that is no text".into()),
                [byte] if line.len() < LINE => line.push(byte),
                _ => return Err(format!("a line of more than {LINE} bytes")),
            }
        }
    }
}

/// Keys and values in turn.
fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    } else {
        Err("a key without a value".into())
    }
}
