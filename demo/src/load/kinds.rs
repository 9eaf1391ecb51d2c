//! What the sessions do: the sorts of operation, how often each is done, and for what.

use crate::tour::Call;

/// One sort of operation.
#[derive(Debug)]
pub(crate) struct Kind {
    /// How the table names it.
    pub(crate) label: &'static str,
    /// How many of a thousand operations.
    pub(crate) share: usize,
    /// A query for what it is done for: rows of arguments, the most wanted first.
    pub(crate) keys: &'static str,
    /// What is done.
    pub(crate) work: Work,
}

/// What is done. All arguments come as text.
#[derive(Debug)]
pub(crate) enum Work {
    /// A call of a cached function.
    Call {
        /// `schema.name` of the base function.
        function: &'static str,
        /// Types of the arguments.
        types: &'static [&'static str],
        /// Whether it returns a table.
        rows: bool,
    },
    /// A write to what such calls depend on; behind the arguments comes a number from 0 to 99.
    Write(&'static str),
}

/// What there is: a shop, the experts' pages, the contacts of enterprises, an airport's boards. What is bought and visited most is
/// asked for most and written most, too. One operation in twenty is a write.
pub(crate) const ALL: &[Kind] = &[
    Kind {
        label: "a product's page",
        share: 440,
        keys: PRODUCTS,
        work: Work::Call {
            function: "get_product_performance",
            types: &["uuid"],
            rows: false,
        },
    },
    Kind {
        label: "an expert's page",
        share: 150,
        keys: EXPERTS,
        work: Work::Call {
            function: "get_expert_sessions_with_stats",
            types: &["uuid"],
            rows: false,
        },
    },
    Kind {
        label: "a department's contacts",
        share: 150,
        keys: DEPARTMENTS,
        work: Work::Call {
            function: "get_department_contacts_summary",
            types: &["bigint", "bigint"],
            rows: false,
        },
    },
    Kind {
        label: "an enterprise's contacts",
        share: 30,
        keys: "SELECT id::text FROM contacts.enterprises ORDER BY id",
        work: Work::Call {
            function: "get_enterprise_contacts_summary",
            types: &["bigint"],
            rows: false,
        },
    },
    Kind {
        label: "a route's airlines",
        share: 80,
        keys: "SELECT origin, dest FROM flights.flights GROUP BY origin, dest ORDER BY count(*) DESC, origin, dest",
        work: Work::Call {
            function: "flights.route_performance",
            types: &["text", "text"],
            rows: true,
        },
    },
    Kind {
        label: "an airport's day",
        share: 80,
        keys: AIRPORT_DAYS,
        work: Work::Call {
            function: "flights.airport_day",
            types: &["text", "date"],
            rows: true,
        },
    },
    Kind {
        label: "an airline's delays",
        share: 20,
        keys: "SELECT carrier FROM flights.flights GROUP BY carrier ORDER BY count(*) DESC, carrier",
        work: Work::Call {
            function: "flights.carrier_delay_summary",
            types: &["text"],
            rows: false,
        },
    },
    Kind {
        label: "an order",
        share: 20,
        keys: PRODUCTS,
        work: Work::Write(
            "INSERT INTO marketplace.orders (product_id, client_id, quantity, unit_price, ordered_at) \
             SELECT id, md5($2::text)::uuid, 1 + $2::text::integer % 3, price, '2025-12-31' \
             FROM marketplace.products WHERE id = $1::text::uuid",
        ),
    },
    Kind {
        label: "a session's new price",
        share: 5,
        keys: EXPERTS,
        work: Work::Write(
            "UPDATE marketplace.sessions SET price = 50 + $2::text::integer WHERE id = \
             (SELECT id FROM marketplace.sessions WHERE expert_id = $1::text::uuid ORDER BY scheduled_at DESC LIMIT 1)",
        ),
    },
    Kind {
        label: "a changed review",
        share: 5,
        keys: EXPERTS,
        work: Work::Write(
            "UPDATE marketplace.reviews SET rating = 1 + $2::text::integer % 5 WHERE id = \
             (SELECT r.id FROM marketplace.bookings b JOIN marketplace.reviews r ON r.booking_id = b.id \
              WHERE b.expert_id = $1::text::uuid ORDER BY b.id LIMIT 1)",
        ),
    },
    Kind {
        label: "a new contact",
        share: 12,
        keys: DEPARTMENTS,
        work: Work::Write(
            "INSERT INTO contacts.contacts (enterprise_id, department_id, employee_id, name, company, source) \
             SELECT enterprise_id, department_id, id, 'Contact ' || $3::text, 'Company ' || $3::text, 'web form' \
             FROM contacts.employees WHERE enterprise_id = $1::text::bigint AND department_id = $2::text::bigint \
             ORDER BY id LIMIT 1",
        ),
    },
    Kind {
        label: "a flight's delay",
        share: 8,
        keys: LATEST_FLIGHTS,
        work: Work::Write(
            "UPDATE flights.flights SET dep_delay = $4::text::smallint, arr_delay = $4::text::smallint \
             WHERE time_hour = $1::text::timestamptz AND carrier = $2::text AND flight = $3::text::smallint",
        ),
    },
];

const PRODUCTS: &str = "SELECT product_id::text FROM marketplace.orders GROUP BY product_id ORDER BY count(*) DESC, product_id";

const EXPERTS: &str = "SELECT expert_id::text FROM marketplace.sessions GROUP BY expert_id ORDER BY count(*) DESC, expert_id";

const DEPARTMENTS: &str = "SELECT enterprise_id::text, department_id::text FROM contacts.contacts \
                           GROUP BY enterprise_id, department_id ORDER BY count(*) DESC, department_id";

/// The latest first.
const AIRPORT_DAYS: &str = "SELECT origin, flight_date::text FROM flights.flights \
                            GROUP BY origin, flight_date ORDER BY flight_date DESC, origin";

/// Those of the last day, in the order in which they are to leave: the boards show those.
const LATEST_FLIGHTS: &str = "SELECT time_hour::text, carrier, flight::text FROM flights.flights \
                              WHERE flight_date = (SELECT max(flight_date) FROM flights.flights) AND dep_time IS NOT NULL \
                              ORDER BY sched_dep_time, carrier, flight";

impl Kind {
    /// Whether it writes.
    pub(crate) fn writes(&self) -> bool {
        matches!(self.work, Work::Write(_))
    }

    /// The base function that it calls, if it calls one.
    pub(crate) fn function(&self) -> Option<&'static str> {
        match self.work {
            Work::Call { function, .. } => Some(function),
            Work::Write(_) => None,
        }
    }

    /// The statement, to be prepared.
    pub(crate) fn statement(&self) -> String {
        match &self.work {
            Work::Write(sql) => (*sql).to_owned(),
            Work::Call { types, .. } => {
                let parameters: Vec<String> = (1..=types.len())
                    .map(|number| format!("${number}::text"))
                    .collect();
                self.call(&parameters)
                    .map_or_else(String::new, |call| call.statement(&call.cached()))
            }
        }
    }

    /// The call with these arguments, which are SQL of type text; none if it is a write.
    pub(crate) fn call(&self, arguments: &[String]) -> Option<Call> {
        let Work::Call {
            function,
            types,
            rows,
        } = self.work
        else {
            return None;
        };
        let arguments: Vec<String> = arguments
            .iter()
            .zip(types)
            .map(|(argument, type_name)| format!("{argument}::{type_name}"))
            .collect();
        Some(Call {
            label: self.label.to_owned(),
            function,
            arguments: arguments.join(", "),
            rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_operation_in_twenty_is_a_write() {
        let shares = |writes: bool| -> usize {
            ALL.iter()
                .filter(|kind| kind.writes() == writes)
                .map(|kind| kind.share)
                .sum()
        };
        assert_eq!((shares(false), shares(true)), (950, 50));
    }

    #[test]
    fn arguments_are_given_their_types() {
        let Some(route) = ALL.iter().find(|kind| kind.label == "an airport's day") else {
            unreachable!("{ALL:?}")
        };
        assert_eq!(
            route.statement(),
            "SELECT * FROM flights.airport_day_cached($1::text::text, $2::text::date)"
        );
    }
}
