//! The functions under test, and the statement that compares each with its cached twin.

/// What a function returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One value: scalar, array, composite.
    Value,
    /// A set of rows.
    Rows,
}

/// How a statement calls the cached function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// With the key alone; rows in FROM.
    Plain,
    /// With the caller's own maximal age.
    MaxAge,
    /// Rows in the select list.
    Projected,
}

/// All forms.
pub const FORMS: &[Form] = &[Form::Plain, Form::MaxAge, Form::Projected];

/// A function under test; its cached twin has `_cached` behind the name.
#[derive(Debug)]
pub struct Subject {
    /// The function that is cached; it takes one integer.
    pub name: &'static str,
    /// The function that says what is right, if that is another one.
    pub truth: &'static str,
    /// What it returns.
    pub shape: Shape,
    /// The keys asked for, both ends included.
    pub keys: (i32, i32),
    /// What the cache is told beforehand; nothing for most, so that it finds out.
    pub depends_on: Option<&'static str>,
    /// The relations whose writes change the answer.
    pub reads: &'static [&'static str],
    /// Whether DDL that takes no lock a reader would notice can change the answer.
    pub guarded: bool,
}

const fn subject(name: &'static str, shape: Shape, reads: &'static [&'static str]) -> Subject {
    Subject {
        name,
        truth: name,
        shape,
        keys: (1, 8),
        depends_on: None,
        reads,
        guarded: false,
    }
}

/// All subjects; those that call others behind them.
pub const SUBJECTS: &[Subject] = &[
    Subject {
        depends_on: Some(r#"{"entries": {"account_id": "$1"}}"#),
        ..subject("account_total", Shape::Value, &["entries"])
    },
    subject(
        "account_summary",
        Shape::Value,
        &["accounts", "entries", "notes"],
    ),
    subject("account_entries", Shape::Rows, &["entries"]),
    subject("account_card", Shape::Value, &["accounts"]),
    Subject {
        keys: (0, 3),
        guarded: true,
        ..subject("orders_by_region", Shape::Value, ORDERS)
    },
    Subject {
        depends_on: Some(r#"{"orders": {"account_id": "$1"}}"#),
        guarded: true,
        ..subject("order_sum", Shape::Value, ORDERS)
    },
    Subject {
        guarded: true,
        ..subject(
            "things_of",
            Shape::Rows,
            &["things", "things_special", "things_rare"],
        )
    },
    subject("scratch_value", Shape::Value, &["scratch"]),
    Subject {
        guarded: true,
        ..subject("swapped", Shape::Value, &["swap_a", "swap_b"])
    },
    Subject {
        guarded: true,
        ..subject("rich_total", Shape::Value, &["accounts", "entries"])
    },
    subject("stored_total", Shape::Value, &["account_totals"]),
    subject(
        "audit_state",
        Shape::Value,
        &["audited", "audit_counts", "audit_log"],
    ),
    subject("ledger_state", Shape::Value, &["ledger", "ledger_sums"]),
    Subject {
        guarded: true,
        ..subject("versioned", Shape::Value, &["entries"])
    },
    Subject {
        depends_on: Some(r#"{"priced": {"bucket": "$1"}}"#),
        ..subject("priced_in", Shape::Value, &["priced"])
    },
    Subject {
        depends_on: Some(r#"{"routed": {"k": "$1"}, "routed_away": {"k": "$1"}}"#),
        ..subject("routed_state", Shape::Value, &["routed", "routed_away"])
    },
    Subject {
        guarded: true,
        ..subject("reborn_value", Shape::Value, &["reborn"])
    },
    Subject {
        depends_on: Some(r#"{"turned": {"k": "$1"}}"#),
        guarded: true,
        ..subject("turned_total", Shape::Value, &["turned"])
    },
    Subject {
        depends_on: Some(r#"{"shelves": {"k": "$1"}}"#),
        guarded: true,
        ..subject("shelf_total", Shape::Value, &["shelves"])
    },
    subject("helped", Shape::Value, &["accounts", "entries"]),
    Subject {
        depends_on: Some(r#"{"secrets": {"k": "$1"}}"#),
        guarded: true,
        ..subject("secrets_of", Shape::Value, &["secrets"])
    },
    Subject {
        guarded: true,
        ..subject("secrets_by_claim", Shape::Value, &["secrets"])
    },
    subject("located", Shape::Value, &["places", "shadow.places"]),
    subject("mirror_state", Shape::Value, &["mirrored", "mirror_log"]),
    Subject {
        depends_on: Some(r#"{"followed": {"k": "$1"}}"#),
        ..subject("followed_total", Shape::Value, &["followed"])
    },
    Subject {
        depends_on: Some(r#"{"followed": {"bucket": "$1"}}"#),
        ..subject("followed_bucket", Shape::Value, &["followed"])
    },
    Subject {
        depends_on: Some(r#"{"parcels": {"k": "$1"}}"#),
        ..subject("parcel_total", Shape::Value, &["parcels"])
    },
    BEACON,
    Subject {
        truth: "overview_uncached",
        ..subject("overview", Shape::Value, &["accounts", "entries", "notes"])
    },
    Subject {
        truth: "caught_uncached",
        ..subject("caught", Shape::Value, &["accounts"])
    },
    Subject {
        truth: "secrets_seen_uncached",
        guarded: true,
        ..subject("secrets_seen", Shape::Value, &["secrets"])
    },
];

/// Subjects whose answers depend on who asks.
pub const PERSONAL: &[&str] = &["secrets_of", "secrets_by_claim", "secrets_seen", "located"];

/// Functions that are cached too, but fail at times, so that they are asked only through a subject.
pub const HELPERS: &[&str] = &["strict_name"];

/// The subject whose answers are versions.
pub const BEACON: Subject = Subject {
    depends_on: Some(r#"{"beacons": {"id": "$1"}}"#),
    ..subject("beacon", Shape::Value, &["beacons"])
};

/// The partitions are named for caches that watch tables one by one; a partitioned table stands for them all.
const ORDERS: &[&str] = &["orders"];

/// What is tracked explicitly, so that nobody has to wait until the cache finds out: relation and key columns.
pub const TRACKED: &[(&str, &[&str])] = &[
    ("accounts", &[]),
    ("entries", &["account_id"]),
    ("notes", &[]),
    ("orders", &["account_id"]),
    ("things", &[]),
    ("things_special", &[]),
    ("things_rare", &[]),
    ("scratch", &[]),
    ("swap_a", &[]),
    ("swap_b", &[]),
    ("beacons", &["id"]),
    ("audited", &[]),
    ("audit_counts", &[]),
    ("audit_log", &[]),
    ("ledger", &[]),
    ("ledger_sums", &[]),
    ("account_totals", &[]),
    ("priced", &["bucket"]),
    ("routed", &["k"]),
    ("routed_away", &["k"]),
    ("reborn", &[]),
    ("turned", &["k"]),
    ("shelves", &["k"]),
    ("secrets", &["k"]),
    ("places", &[]),
    ("shadow.places", &[]),
    ("mirrored", &[]),
    ("mirror_log", &[]),
    ("followed", &["k", "bucket"]),
    ("parcels", &["k"]),
];

/// Takes the guard around statements on guarded subjects.
///
/// An advisory lock does not make a session notice what others have done to the catalogs meanwhile, so that within a
/// transaction PostgreSQL itself may use the old definition and the new one in one statement. Locking a relation does;
/// `pg_relation_size` locks it only while it looks, so that the next call locks it afresh.
pub const LOCK_GUARD: &str = "SELECT pg_advisory_lock_shared(1), pg_relation_size('guard')";

/// Gives the guard back.
pub const UNLOCK_GUARD: &str = "SELECT pg_advisory_unlock_shared(1)";

/// Keeps all guarded statements away until the transaction ends, for the DDL that they could not stand.
pub const LOCK_GUARD_EXCLUSIVELY: &str =
    "SELECT pg_advisory_xact_lock(1), pg_relation_size('guard')";

impl Subject {
    /// The subject called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        SUBJECTS.iter().find(|subject| subject.name == name)
    }

    /// One row for each of `keys` (an SQL expression of type `int[]`): key, equal or not, a fingerprint of the cached
    /// answer, and both answers if they differ, or if they are versions.
    pub fn comparison(&self, form: Form, keys: &str) -> String {
        let (bare, cached) = self.answers(form);
        let show = if self.name == BEACON.name {
            "true"
        } else {
            "bare IS DISTINCT FROM cached"
        };
        // OFFSET 0 keeps the planner from computing the answers once for every mention of them.
        format!(
            "SELECT k, bare IS NOT DISTINCT FROM cached AS same, hashtextextended(cached, 0) AS fingerprint, \
             CASE WHEN {show} THEN bare END AS bare, CASE WHEN {show} THEN cached END AS cached \
             FROM (SELECT k, {bare} AS bare, {cached} AS cached FROM unnest({keys}) AS k OFFSET 0) AS answers"
        )
    }

    /// A function `check_<name>(int[])` that compares inside PL/pgSQL, each key in a statement of its own.
    pub fn plpgsql_check(&self) -> String {
        let (bare, cached) = self.answers(Form::Plain);
        format!(
            "CREATE FUNCTION check_{name}(ks int[])
             RETURNS TABLE (k int, same bool, fingerprint bigint, bare text, cached text) LANGUAGE plpgsql AS $check$
             BEGIN
                 FOREACH k IN ARRAY ks LOOP
                     SELECT {bare}, {cached} INTO bare, cached;
                     same := bare IS NOT DISTINCT FROM cached;
                     fingerprint := hashtextextended(cached, 0);
                     RETURN NEXT;
                 END LOOP;
             END $check$",
            name = self.name
        )
    }

    /// Whether [`expression_check`](Self::expression_check) is fair: an expression keeps what a SQL function has planned until its
    /// transaction ends, so some DDL reaches the function itself later than a statement.
    pub fn has_expression_check(&self) -> bool {
        self.shape == Shape::Value && (!self.guarded || self.name == "versioned")
    }

    /// A function `express_<name>(int[])` that compares in expressions of PL/pgSQL, whose call sites live as long as the
    /// transaction; STABLE, so that both answers are in the snapshot of the statement around it.
    pub fn expression_check(&self) -> String {
        let (bare, cached) = self.answers(Form::Plain);
        format!(
            "CREATE FUNCTION express_{name}(ks int[])
             RETURNS TABLE (k int, same bool, fingerprint bigint, bare text, cached text) LANGUAGE plpgsql STABLE AS $check$
             BEGIN
                 FOREACH k IN ARRAY ks LOOP
                     bare := {bare};
                     cached := {cached};
                     same := bare IS NOT DISTINCT FROM cached;
                     fingerprint := hashtextextended(cached, 0);
                     RETURN NEXT;
                 END LOOP;
             END $check$",
            name = self.name
        )
    }

    /// The SQL expressions of both answers to `k`, as text: equal to the last digit, not only in value.
    fn answers(&self, form: Form) -> (String, String) {
        let age = if form == Form::MaxAge {
            ", '1 hour'"
        } else {
            ""
        };
        let answer = |call: String| match (self.shape, form) {
            (Shape::Value, _) => format!("{call}::text"),
            (Shape::Rows, Form::Projected) => {
                format!("ARRAY(SELECT {call}::text ORDER BY 1)::text")
            }
            (Shape::Rows, _) => format!("ARRAY(SELECT t::text FROM {call} AS t ORDER BY 1)::text"),
        };
        (
            answer(format!("{}(k)", self.truth)),
            answer(format!("{}_cached(k{age})", self.name)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_function_is_asked_first() {
        for subject in SUBJECTS {
            for form in FORMS {
                let sql = subject.comparison(*form, "$1");
                let bare = sql.find(&format!("{}(k)", subject.truth));
                let cached = sql.find(&format!("{}_cached(k", subject.name));
                assert!(bare.is_some() && bare < cached, "{sql}");
            }
        }
    }

    #[test]
    fn everything_read_is_tracked() {
        for subject in SUBJECTS {
            for relation in subject.reads {
                assert!(
                    TRACKED.iter().any(|(tracked, _)| tracked == relation),
                    "{relation}"
                );
            }
        }
    }
}
