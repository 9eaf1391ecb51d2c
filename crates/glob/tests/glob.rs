//! The matcher against examples, and against a second matcher that tries everything.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use pg_query_cache_glob::{Malformed, Pattern, after_prefix};
use std::time::{Duration, Instant};

fn utf8(bytes: &[u8]) -> usize {
    match bytes[0] {
        0..0xc0 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        _ => 4,
    }
}

fn matches(pattern: &str, key: &str) -> bool {
    Pattern::new(pattern.as_bytes(), utf8)
        .unwrap()
        .matches(key.as_bytes())
}

#[test]
fn examples() {
    for (pattern, yes, no) in [
        ("", vec![""], vec!["a"]),
        ("*", vec!["", "a", "a:b", "ü"], vec![]),
        (
            "user:*",
            vec!["user:", "user:1", "user:*"],
            vec!["user", "xuser:1"],
        ),
        ("*:1", vec![":1", "user:1", "a:1:1"], vec!["user:12", "1"]),
        (
            "a*b*c",
            vec!["abc", "axbyc", "abcbc", "abbc"],
            vec!["ab", "acb", "abcd"],
        ),
        ("a**b", vec!["ab", "axb"], vec!["a", "b"]),
        (
            "h?llo",
            vec!["hello", "hüllo", "h€llo", "h𐍈llo"],
            vec!["hllo", "heello"],
        ),
        (
            "h[ae]llo",
            vec!["hello", "hallo"],
            vec!["hillo", "hllo", "haello"],
        ),
        ("h[^e]llo", vec!["hallo", "hüllo"], vec!["hello", "hllo"]),
        (
            "h[a-c]llo",
            vec!["hallo", "hbllo", "hcllo"],
            vec!["hdllo", "h-llo"],
        ),
        ("h[c-a]llo", vec!["hallo", "hbllo", "hcllo"], vec!["hdllo"]),
        ("[ä-ü]", vec!["ä", "ö", "ü"], vec!["a", "ÿ", "é€"]),
        ("[a-]", vec!["a", "-"], vec!["b", ""]),
        ("[-a]", vec!["a", "-"], vec!["b"]),
        (r"[\]]", vec!["]"], vec![r"\", "[", ""]),
        (r"[\^a]", vec!["^", "a"], vec![r"\"]),
        (r"[a\-z]", vec!["a", "-", "z"], vec!["b"]),
        ("[]", vec![], vec!["", "a", "]"]),
        ("[^]", vec!["a", "]", "ü"], vec!["", "ab"]),
        (r"\*", vec!["*"], vec!["a", r"\*", ""]),
        (r"a\?b\[c\\d", vec![r"a?b[c\d"], vec!["axb[cd"]),
        ("a]b", vec!["a]b"], vec!["ab"]),
        ("*[0-9]", vec!["1", "a1", "1a1"], vec!["", "a", "1a"]),
        ("*?", vec!["a", "ab"], vec![""]),
    ] {
        for key in yes {
            assert!(matches(pattern, key), "{pattern} should match {key}");
        }
        for key in no {
            assert!(!matches(pattern, key), "{pattern} should not match {key}");
        }
    }
}

#[test]
fn what_is_no_pattern() {
    for pattern in ["[", "[a", "[^", "[a-", r"[a\", r"[\]", "a[b*"] {
        let problem = Pattern::new(pattern.as_bytes(), utf8).err();
        assert_eq!(problem, Some(Malformed::OpenClass), "{pattern}");
    }
    let problem = Pattern::new(br"a\", utf8).err();
    assert_eq!(problem, Some(Malformed::LoneEscape));
}

/// What the parts mean, word by word, tried in every way there is.
fn by_trying(pattern: &[char], key: &[char]) -> bool {
    match pattern.split_first() {
        None => key.is_empty(),
        Some(('*', rest)) => (0..=key.len()).any(|n| by_trying(rest, &key[n..])),
        Some(('[', rest)) => {
            let end = rest.iter().position(|c| *c == ']').unwrap();
            let (class, rest) = (&rest[..end], &rest[end + 1..]);
            let (without, class) = match class.split_first() {
                Some(('^', class)) => (true, class),
                _ => (false, class),
            };
            key.split_first().is_some_and(|(first, key)| {
                class.contains(first) != without && by_trying(rest, key)
            })
        }
        Some((wanted, rest)) => key.split_first().is_some_and(|(first, key)| {
            (*wanted == '?' || wanted == first) && by_trying(rest, key)
        }),
    }
}

#[test]
fn the_same_as_trying_everything() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    let pieces = [
        "a", "b", "ü", "*", "*", "?", "[a]", "[^a]", "[bü]", "[^bü]", "[]", "[^]",
    ];
    let mut matched = 0;
    for _ in 0..200_000 {
        let pattern: String = (0..random(7))
            .map(|_| pieces[random(pieces.len())])
            .collect();
        let key: String = (0..random(8)).map(|_| ["a", "b", "ü"][random(3)]).collect();
        let characters = |text: &str| text.chars().collect::<Vec<_>>();
        let expected = by_trying(&characters(&pattern), &characters(&key));
        assert_eq!(matches(&pattern, &key), expected, "{pattern} and {key}");
        if expected {
            matched += 1;
            let prefix = Pattern::new(pattern.as_bytes(), utf8).unwrap().prefix();
            assert!(key.as_bytes().starts_with(&prefix));
            if let Some(after) = after_prefix(&prefix) {
                assert!(*key.as_bytes() < *after && *prefix <= *key.as_bytes());
            }
        }
    }
    assert!((20_000..180_000).contains(&matched), "{matched} matched");
}

#[test]
fn cannot_run_away() {
    let key = "a".repeat(1024);
    let pattern = "a*".repeat(500) + "b";
    let began = Instant::now();
    assert!(!matches(&pattern, &key));
    assert!(!matches(&("*a".repeat(300) + "*[^a]*"), &key));
    assert!(began.elapsed() < Duration::from_millis(500));
}

#[test]
fn any_bytes() {
    // Cut short, not UTF-8, a length that says nothing: no panic, no endless loop.
    let text: &[u8] = &[0xf0, 0x9f, b'*', 0xff];
    for length in [utf8 as fn(&[u8]) -> usize, |_| 0, |_| 100, |_| 1] {
        let pattern = Pattern::new(text, length).unwrap();
        pattern.matches(text);
        pattern.matches(&[]);
    }
}

#[test]
fn after_a_prefix() {
    assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
    assert_eq!(after_prefix(b"a\xff\xff"), Some(b"b".to_vec()));
    assert_eq!(after_prefix(b"\xff"), None);
    assert_eq!(after_prefix(b""), None);
}
