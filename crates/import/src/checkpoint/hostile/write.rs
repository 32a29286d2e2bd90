//! Writes archives, pickles and safetensors as they should not be.

/// A member of an archive, and what the archive says of it.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) claimed: u32,
    /// Added to where it lies.
    pub(super) header: u32,
}

/// A member that is stored as it is; its checksum is written when the archive is.
pub(super) fn member(name: &str, bytes: &[u8]) -> Member {
    Member { name: name.into(), bytes: bytes.into(), method: 0, crc: 0, claimed: 0, header: 0 }
}

/// An archive. What a member does not claim is what is true.
pub(super) fn archive(members: &[Member]) -> Vec<u8> {
    let (mut file, mut table) = (Vec::new(), Vec::new());
    for m in members {
        let mut crc = flate2::Crc::new();
        crc.update(&m.bytes);
        let (at, length) = (file.len() as u32, m.bytes.len() as u32);
        let claimed = if m.claimed == 0 { length } else { m.claimed };
        let mut head = vec![20, 0, 0, 0];
        head.extend(m.method.to_le_bytes());
        head.extend([0; 4]);
        for n in [crc.sum() ^ m.crc, length, claimed] {
            head.extend(n.to_le_bytes());
        }
        head.extend((m.name.len() as u16).to_le_bytes());
        head.extend([0; 2]);
        file.extend([b"PK\x03\x04", head.as_slice(), m.name.as_bytes(), &m.bytes].concat());
        table.extend([b"PK\x01\x02\x14\0", head.as_slice(), &[0; 10]].concat());
        table.extend((at + m.header).to_le_bytes());
        table.extend(m.name.as_bytes());
    }
    let start = file.len() as u32;
    let count = (members.len() as u16).to_le_bytes();
    file.extend(&table);
    file.extend([b"PK\x05\x06\0\0\0\0", count.as_slice(), &count].concat());
    file.extend((table.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0; 2]);
    file
}

/// A pickle under construction.
#[derive(Clone)]
pub(super) struct Pickle(Vec<u8>);

pub(super) fn pickle() -> Pickle {
    Pickle(Vec::new())
}

impl Pickle {
    pub(super) fn op(mut self, opcode: u8) -> Self {
        self.0.push(opcode);
        self
    }

    pub(super) fn then(mut self, other: &Self) -> Self {
        self.0.extend(&other.0);
        self
    }

    pub(super) fn global(mut self, module: &str, name: &str) -> Self {
        self.0.extend(format!("c{module}\n{name}\n").as_bytes());
        self
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
        self
    }

    pub(super) fn int(mut self, n: i32) -> Self {
        self.0.push(b'J');
        self.0.extend(n.to_le_bytes());
        self
    }

    /// A tuple of the last one, two or three values.
    pub(super) fn tuple(self, count: u8) -> Self {
        self.op(0x84 + count)
    }

    pub(super) fn ints(self, numbers: &[i32]) -> Self {
        numbers.iter().fold(self.op(b'('), |pickle, n| pickle.int(*n)).op(b't')
    }

    pub(super) fn put(self, place: u8) -> Self {
        self.op(b'q').op(place)
    }

    pub(super) fn get(self, place: u8) -> Self {
        self.op(b'h').op(place)
    }

    pub(super) fn stop(self) -> Vec<u8> {
        self.op(b'.').0
    }
}

/// A view of the storage 0, which the pickle says has `count` numbers of 32 bits.
pub(super) fn tensor(count: i32, offset: i32, shape: &[i32], strides: &[i32]) -> Pickle {
    let storage = pickle().op(b'(').text("storage").global("torch", "FloatStorage").text("0").text("cpu").int(count);
    let storage = storage.op(b't').op(b'Q');
    let view = pickle().global("torch._utils", "_rebuild_tensor_v2").op(b'(').then(&storage).int(offset);
    view.ints(shape).ints(strides).op(0x89).op(b'}').op(b't').op(b'R')
}

/// A small file with several types.
pub(super) fn safetensors() -> Vec<u8> {
    use safetensors::{Dtype, tensor::TensorView};
    let bytes = [0x3c; 48];
    let view = |dtype, shape: &[usize]| {
        let length = shape.iter().product::<usize>() * if dtype == Dtype::F32 { 4 } else { 2 };
        TensorView::new(dtype, shape.to_vec(), &bytes[..length]).unwrap()
    };
    let tensors = [
        ("a.weight", view(Dtype::F32, &[3, 4])),
        ("a.bias", view(Dtype::F16, &[3])),
        ("b", view(Dtype::BF16, &[2, 2, 2])),
    ];
    safetensors::serialize(tensors, None).unwrap()
}
