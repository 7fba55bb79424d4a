//! Generated container names, `adjective_surname` as Docker's users expect them.

const ADJECTIVES: &[&str] = &[
    "able", "agile", "amber", "awake", "bold", "brave", "bright", "brisk", "calm", "candid", "cheerful",
    "clever", "cosmic", "crisp", "curious", "daring", "deft", "dreamy", "eager", "earnest", "elated", "epic",
    "fair", "fearless", "festive", "fluent", "focused", "frank", "friendly", "gallant", "gentle", "gifted",
    "glad", "graceful", "happy", "hardy", "hopeful", "humble", "jolly", "jovial", "keen", "kind", "lively",
    "loyal", "lucid", "mellow", "merry", "modest", "nimble", "noble", "patient", "peaceful", "placid",
    "playful", "polite", "proud", "quick", "quiet", "relaxed", "serene", "sharp", "silent", "sincere",
    "steady", "sturdy", "sunny", "swift", "tender", "thrifty", "tidy", "tranquil", "upbeat", "valiant",
    "vibrant", "vigilant", "vivid", "warm", "wise", "witty", "zealous",
];

const SURNAMES: &[&str] = &[
    "abel",
    "ampere",
    "archimedes",
    "babbage",
    "banach",
    "bardeen",
    "bell",
    "bernoulli",
    "blackwell",
    "bohr",
    "boltzmann",
    "boole",
    "bose",
    "brahmagupta",
    "brattain",
    "carson",
    "cauchy",
    "cerf",
    "chandrasekhar",
    "church",
    "clarke",
    "copernicus",
    "cori",
    "curie",
    "dalton",
    "darwin",
    "davinci",
    "dijkstra",
    "dirac",
    "edison",
    "einstein",
    "engelbart",
    "erdos",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "franklin",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "goldberg",
    "goodall",
    "hamilton",
    "hawking",
    "heisenberg",
    "hermann",
    "hertz",
    "hilbert",
    "hodgkin",
    "hopper",
    "huygens",
    "hypatia",
    "jackson",
    "jemison",
    "johnson",
    "joliot",
    "kepler",
    "knuth",
    "kovalevskaya",
    "lagrange",
    "lamarr",
    "laplace",
    "leibniz",
    "liskov",
    "lovelace",
    "maxwell",
    "mccarthy",
    "meitner",
    "mendel",
    "mendeleev",
    "mirzakhani",
    "moore",
    "morse",
    "napier",
    "newton",
    "nightingale",
    "nobel",
    "noether",
    "pascal",
    "pasteur",
    "payne",
    "perlman",
    "planck",
    "poincare",
    "ptolemy",
    "raman",
    "ramanujan",
    "riemann",
    "ritchie",
    "rosalind",
    "rubin",
    "sagan",
    "shannon",
    "sinoussi",
    "snyder",
    "swirles",
    "tesla",
    "thompson",
    "torvalds",
    "turing",
    "volta",
    "wescoff",
    "wiles",
    "williams",
    "wozniak",
    "wright",
    "yalow",
    "yonath",
    "zhukovsky",
];

/// A random name. `attempt` counts failures so far: after a few, a digit is appended.
pub(crate) fn generate(attempt: u32) -> String {
    let mut bytes = [0_u8; 5];
    // A missing random source only makes names less varied.
    let _ = getrandom::fill(&mut bytes);
    let pick = |words: &[&'static str], hi: u8, lo: u8| {
        words[usize::from(u16::from_be_bytes([hi, lo])) % words.len()]
    };
    let mut name = format!("{}_{}", pick(ADJECTIVES, bytes[0], bytes[1]), pick(SURNAMES, bytes[2], bytes[3]));
    if attempt > 0 {
        name.push_str(&(bytes[4] % 10).to_string());
    }
    if attempt > 5 {
        name.push_str(&attempt.to_string());
    }
    name
}

#[cfg(test)]
mod tests {
    #[test]
    fn generated_names_are_valid() {
        for attempt in 0..10 {
            let name = super::generate(attempt);
            assert!(name.parse::<ferry_types::ContainerName>().is_ok(), "{name}");
        }
    }
}
