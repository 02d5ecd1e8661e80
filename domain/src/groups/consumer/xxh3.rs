//! XXH3 of 64 bits without a seed (Yann Collet's xxHash): the hash that Kafka keeps of a group's topics.

/// The default secret.
#[rustfmt::skip]
const SECRET: [u8; 192] = [
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
];

const PRIME32: [u64; 3] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d];
const PRIME64: [u64; 5] = [
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];
const PRIME_MX1: u64 = 0x1656_6791_9e37_79f9;
const PRIME_MX2: u64 = 0x9fb2_1c65_1e98_df25;

/// Bytes that are mixed at once in a long input, and how many make a block, after which the lanes are scrambled.
const STRIPE: usize = 64;
const BLOCK: usize = STRIPE * 16;

/// The hash of `input`.
pub(super) fn xxh3_64(input: &[u8]) -> u64 {
    let len = input.len();
    match len {
        0 => avalanche64(secret(56) ^ secret(64)),
        1..=3 => {
            let byte = |at: usize| u64::from(input.get(at).copied().unwrap_or(0));
            let mixed = byte(0) << 16 | byte(len / 2) << 24 | byte(len - 1) | (len as u64) << 8;
            avalanche64(mixed ^ (u64::from(u32_at(&SECRET, 0)) ^ u64::from(u32_at(&SECRET, 4))))
        }
        4..=8 => {
            let mixed = u64::from(u32_at(input, len - 4)) | u64::from(u32_at(input, 0)) << 32;
            let mut hash = mixed ^ secret(8) ^ secret(16);
            hash ^= hash.rotate_left(49) ^ hash.rotate_left(24);
            hash = hash.wrapping_mul(PRIME_MX2);
            hash ^= (hash >> 35).wrapping_add(len as u64);
            hash = hash.wrapping_mul(PRIME_MX2);
            hash ^ hash >> 28
        }
        9..=16 => {
            let low = u64_at(input, 0) ^ secret(24) ^ secret(32);
            let high = u64_at(input, len - 8) ^ secret(40) ^ secret(48);
            let sum = (len as u64).wrapping_add(low.swap_bytes()).wrapping_add(high);
            avalanche(sum.wrapping_add(fold(low, high)))
        }
        17..=128 => {
            let mut hash = (len as u64).wrapping_mul(PRIME64[0]);
            // Pairs of 16 bytes from both ends inwards.
            for pair in (0..(len - 1) / 32 + 1).rev() {
                hash = hash.wrapping_add(mix16(input, 16 * pair, 32 * pair));
                hash = hash.wrapping_add(mix16(input, len - 16 * (pair + 1), 32 * pair + 16));
            }
            avalanche(hash)
        }
        129..=240 => {
            let mut hash = (len as u64).wrapping_mul(PRIME64[0]);
            for round in 0..8 {
                hash = hash.wrapping_add(mix16(input, 16 * round, 16 * round));
            }
            hash = avalanche(hash);
            for round in 8..len / 16 {
                hash = hash.wrapping_add(mix16(input, 16 * round, 16 * (round - 8) + 3));
            }
            avalanche(hash.wrapping_add(mix16(input, len - 16, 136 - 17)))
        }
        _ => long(input),
    }
}

fn long(input: &[u8]) -> u64 {
    let mut lanes = [
        PRIME32[2], PRIME64[0], PRIME64[1], PRIME64[2], PRIME64[3], PRIME32[1], PRIME64[4], PRIME32[0],
    ];
    // The last stripe is mixed on its own, and may overlap the one before.
    let whole = input.len() - 1;
    for block in input.get(..whole).unwrap_or_default().chunks(BLOCK) {
        for (number, stripe) in block.chunks_exact(STRIPE).enumerate() {
            mix_stripe(&mut lanes, stripe, 8 * number);
        }
        if block.len() == BLOCK {
            for (lane, at) in lanes.iter_mut().zip((128..).step_by(8)) {
                *lane = (*lane ^ *lane >> 47 ^ secret(at)).wrapping_mul(PRIME32[0]);
            }
        }
    }
    let last = input.len().saturating_sub(STRIPE);
    mix_stripe(
        &mut lanes,
        input.get(last..).unwrap_or_default(),
        SECRET.len() - STRIPE - 7,
    );

    let mut hash = (input.len() as u64).wrapping_mul(PRIME64[0]);
    let [a, b, c, d, e, f, g, h] = lanes;
    for (at, (one, other)) in (11..).step_by(16).zip([(a, b), (c, d), (e, f), (g, h)]) {
        hash = hash.wrapping_add(fold(one ^ secret(at), other ^ secret(at + 8)));
    }
    avalanche(hash)
}

fn mix_stripe(lanes: &mut [u64; 8], stripe: &[u8], secret_at: usize) {
    for (pair, at) in lanes.chunks_exact_mut(2).zip((0..).step_by(16)) {
        let [even, odd] = pair else { continue };
        let (one, other) = (u64_at(stripe, at), u64_at(stripe, at + 8));
        let product = |word: u64, at: usize| {
            let keyed = word ^ secret(secret_at + at);
            (keyed & 0xffff_ffff).wrapping_mul(keyed >> 32)
        };
        // A lane takes in its neighbour's word as it is.
        *even = even.wrapping_add(product(one, at)).wrapping_add(other);
        *odd = odd.wrapping_add(product(other, at + 8)).wrapping_add(one);
    }
}

fn mix16(input: &[u8], at: usize, secret_at: usize) -> u64 {
    fold(
        u64_at(input, at) ^ secret(secret_at),
        u64_at(input, at + 8) ^ secret(secret_at + 8),
    )
}

/// Both halves of the product.
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product as u64) ^ (product >> 64) as u64
}

fn avalanche(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 37).wrapping_mul(PRIME_MX1);
    hash ^ hash >> 32
}

/// That of XXH64, for the shortest inputs.
fn avalanche64(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 33).wrapping_mul(PRIME64[1]);
    let hash = (hash ^ hash >> 29).wrapping_mul(PRIME64[2]);
    hash ^ hash >> 32
}

fn secret(at: usize) -> u64 {
    u64_at(&SECRET, at)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_kafkas_library() {
        // Made with hash4j 0.22, which Kafka 4.3.1 uses.
        let expected = [
            (0, 0x2d06_8005_38d3_94c2),
            (1, 0x13e6_08bc_156d_efed),
            (2, 0x1c90_74b9_3943_b86c),
            (3, 0xa908_8dda_485b_481c),
            (4, 0x6d92_53b1_6c8b_1ed3),
            (7, 0x8e82_91ad_8912_7e2e),
            (8, 0x6053_9db6_3047_1163),
            (9, 0xfeff_6683_61d7_23a8),
            (13, 0x67f7_7075_aba7_f824),
            (16, 0xb8c8_59b0_f030_b585),
            (17, 0x714a_0440_8e79_b80f),
            (32, 0x19ff_4ee1_d6ba_1a55),
            (33, 0x3e44_983a_d216_79c8),
            (64, 0x287e_b1fa_9e4b_e2c1),
            (65, 0x8292_18de_4d79_8646),
            (96, 0xf084_e7cf_bc62_4743),
            (97, 0x1daa_8327_1a8e_7b7c),
            (128, 0x6742_5a03_6502_61bf),
            (129, 0xc664_bf33_11c6_abc4),
            (144, 0x606a_17fa_700b_b932),
            (200, 0x746c_d002_5327_bf5b),
            (240, 0x6455_6dc6_b462_a6cf),
            (241, 0x8bea_dd3a_8874_fe17),
            (256, 0x3c38_817f_6d79_c0da),
            (512, 0xf582_02b8_d901_9d1d),
            (1024, 0x9b81_661c_641c_72b1),
            (1025, 0x806c_2072_ed71_3576),
            (1088, 0x2f87_81e0_1841_f0da),
            (2048, 0xabe6_0481_3ba6_2ed1),
            (2049, 0x55ae_d42c_9f15_54b6),
            (5000, 0x799a_addd_7339_581d),
        ];
        for (len, hash) in expected {
            let input: Vec<u8> = (0..len).map(|number| (number * 7 + 3) as u8).collect();
            assert_eq!(xxh3_64(&input), hash, "{len} bytes");
        }
    }
}
