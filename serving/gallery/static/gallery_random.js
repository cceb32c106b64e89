// Latents of a seed, the same to the bit as numpy.random.RandomState(seed).standard_normal draws them: MT19937
// (Matsumoto and Nishimura 1998), 53 bits a number, and Marsaglia's polar method, which gives two numbers at a time and
// the second of them first.

const MT_WORDS = 624;
const MT_SHIFT = 397;

class RandomState {
  constructor(seed) {
    this.words = new Uint32Array(MT_WORDS);
    this.words[0] = seed;
    for (let i = 1; i < MT_WORDS; i++) {
      const before = this.words[i - 1] ^ (this.words[i - 1] >>> 30);
      this.words[i] = Math.imul(1812433253, before) + i;
    }
    this.next = MT_WORDS;
    this.kept = null; // the second number of a pair
  }

  word() {
    if (this.next === MT_WORDS) this.twist();
    let y = this.words[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  twist() {
    const { words } = this;
    for (let i = 0; i < MT_WORDS; i++) {
      const y = (words[i] & 0x80000000) | (words[(i + 1) % MT_WORDS] & 0x7fffffff);
      words[i] = words[(i + MT_SHIFT) % MT_WORDS] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }

  // In [0, 1), of 27 bits of one word and 26 of the next.
  uniform() {
    const high = this.word() >>> 5;
    return (high * 67108864 + (this.word() >>> 6)) / 9007199254740992;
  }

  normal() {
    if (this.kept !== null) {
      const kept = this.kept;
      this.kept = null;
      return kept;
    }
    let x = 0;
    let y = 0;
    let square = 0;
    do {
      x = 2 * this.uniform() - 1;
      y = 2 * this.uniform() - 1;
      square = x * x + y * y;
    } while (square >= 1 || square === 0);
    const scale = Math.sqrt((-2 * Math.log(square)) / square);
    this.kept = scale * x;
    return scale * y;
  }
}

// z of a seed from 0 to 2^32 - 1, as float32.
function latent(seed, size) {
  const state = new RandomState(seed);
  return Float32Array.from({ length: size }, () => state.normal());
}
