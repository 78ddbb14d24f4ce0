//! Damage to tars, of the kind that keeps them interesting: most of it leaves the header checksums right.

use std::ops::Range;

use super::chance::Chance;

const BLOCK: usize = 512;

/// The fields of a header, by their places.
const FIELDS: [Range<usize>; 11] = [
    0..100,
    100..108,
    108..116,
    116..124,
    124..136,
    136..148,
    156..157,
    157..257,
    257..265,
    345..500,
    482..483,
];

/// Changes a tar in up to eight ways.
pub(crate) fn mutate(chance: &mut Chance, tar: &mut Vec<u8>, others: &[Vec<u8>]) {
    for _ in 0..chance.below(9) {
        if tar.len() < BLOCK {
            return;
        }
        match chance.below(12) {
            0 => {
                let at = chance.below(tar.len());
                tar[at] = chance.next() as u8;
            }
            1 => tar.truncate(chance.below(tar.len())),
            2 => move_blocks(chance, tar),
            3 => {
                let other = chance.pick(others);
                let (from, at) = (chance.below(other.len() / BLOCK) * BLOCK, blocks_before(chance, tar));
                let blocks = (1 + chance.below(8)) * BLOCK;
                let piece = other[from..other.len().min(from + blocks)].to_vec();
                tar.splice(at..at, piece);
            }
            4 => pax_bytes(chance, tar),
            _ => field(chance, tar),
        }
    }
}

fn blocks_before(chance: &mut Chance, tar: &[u8]) -> usize {
    chance.below(tar.len() / BLOCK + 1) * BLOCK
}

fn move_blocks(chance: &mut Chance, tar: &mut Vec<u8>) {
    let at = chance.below(tar.len() / BLOCK) * BLOCK;
    let end = tar.len().min(at + (1 + chance.below(4)) * BLOCK);
    let piece: Vec<u8> = tar[at..end].to_vec();
    if chance.one_in(2) {
        tar.drain(at..end);
    }
    if chance.one_in(2) && tar.len() >= BLOCK {
        let to = blocks_before(chance, tar);
        tar.splice(to..to, piece);
    }
}

/// Where headers with right checksums are.
fn headers(tar: &[u8]) -> Vec<usize> {
    let is_header = |block: &[u8]| {
        let text = std::str::from_utf8(&block[148..154]).unwrap_or_default();
        u64::from_str_radix(text.trim(), 8).is_ok_and(|expected| expected == checksum(block))
    };
    tar.chunks_exact(BLOCK)
        .enumerate()
        .filter(|(_, block)| is_header(block))
        .map(|(at, _)| at * BLOCK)
        .collect()
}

fn checksum(block: &[u8]) -> u64 {
    let counted = block[..148].iter().chain(&block[156..]);
    counted.map(|byte| u64::from(*byte)).sum::<u64>() + 8 * u64::from(b' ')
}

/// Makes the checksum of a header right.
pub(crate) fn seal(block: &mut [u8]) {
    let sum = format!("{:06o}\0 ", checksum(block));
    block[148..156].copy_from_slice(sum.as_bytes());
}

fn field(chance: &mut Chance, tar: &mut [u8]) {
    let headers = headers(tar);
    if headers.is_empty() {
        return;
    }
    let at = *chance.pick(&headers);
    let block = &mut tar[at..at + BLOCK];
    let range = chance.pick(&FIELDS).clone();
    let value = interesting(chance, &range);
    let field = &mut block[range];
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
    if !chance.one_in(20) {
        seal(block);
    }
}

fn interesting(chance: &mut Chance, range: &Range<usize>) -> Vec<u8> {
    let numbers: &[&[u8]] = &[
        b"00000000000\0",
        b"00000000001\0",
        b"00000000777\0",
        b"00000001000\0",
        b"77777777777\0",
        b"777777777777",
        b"-0000000001\0",
        &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0],
        &[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        &[0xff; 12],
        b"99999999999\0",
    ];
    let names: &[&[u8]] = &[
        b"../../etc/passwd\0",
        b"/etc/passwd\0",
        b"a/../../b\0",
        b".\0",
        b"./\0",
        b"\0",
        b"/\0",
        b"a/\0",
        b"a\0",
        b"a/b\0",
        b".wh.a\0",
        b"a/.wh..wh..opq\0",
        b".wh..wh..opq\0",
        b".wh.\0",
        b".wh...\0",
        b"a//b\0",
        b"a\nb\0",
        b"a/b/c/d/e/f/g\0",
        b"\xff\xfe\0",
    ];
    let flags = b"0\x001234567xXgLKSMVDNA\xff";
    match range.start {
        0 | 157 | 345 => chance.pick(names).to_vec(),
        156 => vec![*chance.pick(flags)],
        257 => chance.pick(&[&b"ustar\x0000"[..], b"ustar  \0", b"\0\0\0\0\0\0\0\0"]).to_vec(),
        482 => vec![chance.next() as u8],
        start => {
            let number = chance.pick(numbers);
            // Short fields take the end, where the digits are.
            if start < 124 { number[number.len() - 8..].to_vec() } else { number.to_vec() }
        }
    }
}

/// Changes the data of a pax header.
fn pax_bytes(chance: &mut Chance, tar: &mut [u8]) {
    let records: &[&[u8]] = &[
        b"19 size=1000000000\n",
        b"9 size=0\n",
        b"30 size=99999999999999999999999\n",
        b"12 path=a/b\n",
        b"8 path=\n",
        b"15 path=../../x\n",
        b"22 GNU.sparse.major=1\n",
        b"16 linkpath=a/b\n",
        b"20 mtime=-1.99999999\n",
        b"99999999 x=y\n",
        b"0 x=y\n",
        b"=\n",
    ];
    let pax: Vec<usize> = headers(tar).into_iter().filter(|at| b"xgLK".contains(&tar[at + 156])).collect();
    if pax.is_empty() {
        return;
    }
    let at = *chance.pick(&pax) + BLOCK;
    let record = chance.pick(records);
    if let Some(place) = tar.get_mut(at..at + record.len()) {
        place.copy_from_slice(record);
    }
}
