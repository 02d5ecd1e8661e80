//! A keyed digest of record keys: SipHash-2-4 with 128 bits of output (Aumasson and Bernstein).
//!
//! Kafka's map of keys takes MD5 for the key itself. That is slow, and two keys with the same MD5 can be made at will: one
//! of them deletes the other's records. SipHash is a pseudorandom function: without its secret, which is drawn anew for each
//! cleaning and never leaves the process, nobody can choose keys that meet, and n keys meet by chance with a probability of
//! n² / 2¹²⁹: less than 10⁻²² for a thousand million of them.

/// The digest of `key` under `secret`.
pub(super) fn digest(secret: [u64; 2], key: &[u8]) -> [u64; 2] {
    let [k0, k1] = secret;
    let mut state = State {
        v0: k0 ^ 0x736f_6d65_7073_6575,
        v1: k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        v2: k0 ^ 0x6c79_6765_6e65_7261,
        v3: k1 ^ 0x7465_6462_7974_6573,
    };
    let (words, rest) = key.as_chunks::<8>();
    for word in words {
        state.absorb(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    if let Some(last) = last.get_mut(..rest.len()) {
        last.copy_from_slice(rest);
    }
    state.absorb(u64::from_le_bytes(last) | (key.len() as u64) << 56);
    state.v2 ^= 0xee;
    let first = state.squeeze();
    state.v1 ^= 0xdd;
    [first, state.squeeze()]
}

struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[inline]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }

    #[inline]
    fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }

    #[inline]
    fn squeeze(&mut self) -> u64 {
        for _ in 0..4 {
            self.round();
        }
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference implementation's vectors: the key is 0, 1, .. 15, the input 0, 1, ..
    #[test]
    fn digests_are_siphashs() {
        let secret = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let hex = |length: u8| {
            let input: Vec<u8> = (0..length).collect();
            let digest = digest(secret, &input).map(u64::to_le_bytes).concat();
            digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let expected = [
            "a3817f04ba25a8e66df67214c7550293",
            "da87c1d86b99af44347659119b22fc45",
            "8177228da4a45dc7fca38bdef60affe4",
            "9c70b60c5267a94e5f33b6b02985ed51",
            "f88164c12d9c8faf7d0f6e7c7bcd5579",
            "1368875980776f8854527a07690e9627",
            "14eeca338b208613485ea0308fd7a15e",
            "a1f1ebbed8dbc153c0b84aa61ff08239",
            "3b62a9ba6258f5610f83e264f31497b4",
        ];
        for (length, expected) in (0..).zip(expected) {
            assert_eq!(hex(length), expected, "{length}");
        }
    }
}
