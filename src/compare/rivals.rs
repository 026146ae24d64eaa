//! Work that ran beside the culprit's, grew as much, and ended with it: without the culprit the trace would have been as
//! slow. The critical path goes through one of the two, and through which one is chance.

use hashbrown::HashMap;

use super::Category;
use super::analysis::Analysis;
use super::blame::Blamed;
use super::dependency;
use super::judge::Evidence;
use super::tree::{NONE, Node};

/// What would be gained without the culprit is little when it is less than one part in so many of what it is blamed for.
const LITTLE: u64 = 5;

/// What is known of one path of calls in a branch. Nanoseconds.
#[derive(Clone, Copy)]
struct Part {
    service: u32,
    alone: u64,
    normal: u64,
}

/// What ran beside the spans that lead to the culprit.
struct Beside {
    /// The first span of each branch, in the order of their numbers.
    branches: Vec<u32>,
    /// The services that lead to the culprit, ordered.
    services: Vec<u32>,
}

impl<'a> Evidence<'a> {
    /// The name of the service that grew most in a branch that explains the added time as well as `top` does.
    pub(crate) fn rival(&self, top: &Blamed) -> Option<&'a str> {
        // More calls, other calls, and a silence that several may wait for are seen for what they are.
        if !matches!(
            top.category,
            Category::OwnTime | Category::NetworkQueue | Category::Saturation | Category::Dependency
        ) {
            return None;
        }
        let tree = &self.analysis.tree;
        let nodes = &tree.nodes;
        let score = self.score(top);
        let Beside { branches, services } = self.beside(top, score)?;
        let mut branch_of = vec![NONE; nodes.as_slice().len()];
        let mut parts: HashMap<(u32, u64), Part> = HashMap::new();
        let mut on_path: HashMap<u32, u64> = HashMap::new();
        for (node, number) in nodes.as_slice().iter().zip(0_u32..) {
            let inherited = branch_of.get(node.caller as usize).copied().unwrap_or(NONE);
            let branch = if branches.binary_search(&number).is_ok() { number } else { inherited };
            if branch == NONE {
                continue;
            }
            if let Some(of_this) = branch_of.get_mut(number as usize) {
                *of_this = branch;
            }
            *on_path.entry(branch).or_default() += self.analysis.path.own[number];
            let base = self.analysis.calls.base[number];
            // Whatever waits for the culprit, or for what the culprit waits for, is no other cause.
            let is_other =
                |service: &u32| tree.services[*service].id != top.id && tree.service(node).id != top.id;
            let Some(service) = self.owner(base, top, &services).filter(is_other) else { continue };
            let key = self.analysis.calls.key[base];
            let part = parts.entry((branch, key)).or_insert_with(|| Part {
                service,
                alone: 0,
                normal: self.normally_alone(key),
            });
            part.alone += self.analysis.path.alone[number];
        }
        self.strongest(&parts, &on_path, score)
    }

    /// Whose the time of a base is: of a call, whoever was waited for. `leading` are the services that lead to the culprit:
    /// one of them that has a second span while it waits does nothing beside the one that it waits for, unless that span
    /// says itself that it waits for somebody else. A peer that sends no spans may be the culprit's as well.
    fn owner(&self, base: u32, top: &Blamed, leading: &[u32]) -> Option<u32> {
        let Analysis { tree, calls, .. } = self.analysis;
        let node = &tree.nodes[base];
        let is_leading = |service: &u32| leading.binary_search(service).is_ok();
        if !calls.is_call[base] {
            return Some(node.service).filter(|service| !is_leading(service));
        }
        match calls.callee[base] {
            Some(callee) => Some(callee).filter(|callee| !is_leading(callee)),
            None if top.category == Category::Dependency => None,
            None => dependency::of(tree, node).is_some().then_some(node.service),
        }
    }

    /// The spans beside those that lead to `top` that ran at once with them for as long as
    /// it is blamed for, and ended when they did; `None` where there are none.
    fn beside(&self, top: &Blamed, score: u64) -> Option<Beside> {
        let nodes = &self.analysis.tree.nodes;
        let row = self.findings.row_of(top)?;
        let mut number = self.analysis.ledger.entries.get(row.slow?)?.longest;
        let mut below = vec![NONE; nodes.as_slice().len()];
        let mut services = vec![nodes[number].service];
        while number != 0 {
            let caller = nodes[number].caller;
            *below.get_mut(caller as usize)? = number;
            number = caller;
            services.push(nodes[number].service);
        }
        services.sort_unstable();
        services.dedup();
        let numbered = nodes.as_slice().iter().zip(0_u32..).skip(1);
        let beside = numbered.filter(|(node, number)| {
            let leading = below.get(node.caller as usize).copied().unwrap_or(NONE);
            leading != NONE
                && leading != *number
                && node.is_blocking
                && ran_at_once(node, &nodes[leading], score)
        });
        let branches: Vec<u32> = beside.map(|(_, number)| number).collect();
        (!branches.is_empty()).then_some(Beside { branches, services })
    }

    fn strongest(
        &self,
        parts: &HashMap<(u32, u64), Part>,
        on_path: &HashMap<u32, u64>,
        score: u64,
    ) -> Option<&'a str> {
        let tree = &self.analysis.tree;
        // For each branch, how much it grew in all, and the part that grew most.
        let mut grown: HashMap<u32, (u64, u64, &str)> = HashMap::new();
        for ((branch, _), part) in parts {
            let by = part.alone.saturating_sub(part.normal);
            let name = tree.services[part.service].name.as_str();
            let (sum, most, who) = grown.entry(*branch).or_insert((0, 0, name));
            *sum = sum.saturating_add(by);
            (*most, *who) = (*most, *who).max((by, name));
        }
        let rivals = grown.iter().filter(|(branch, (sum, ..))| {
            // What is on the path has its own score. What ended with the culprit leaves nothing to gain without it, whatever it
            // took before; but some of that must be why the trace is slow.
            let spent = on_path.get(*branch).copied().unwrap_or(0);
            *sum >= score / 2 && spent <= score / LITTLE
        });
        rivals.map(|(_, (_, most, name))| (*most, *name)).max().map(|(_, name)| name)
    }

    /// Nanoseconds that a path of calls normally takes without those it calls, on the critical path or not.
    fn normally_alone(&self, key: u64) -> u64 {
        let at = self.analysis.ledger.position(key);
        let row = at.and_then(|at| self.findings.rows.get(at));
        row.and_then(|row| self.references.floors.get(row.reference_key)).map_or(0, |floor| floor.alone)
    }
}

/// Whether the two ran at once for nearly `score` nanoseconds, and `beside` ended with `leading` or hardly before it.
fn ran_at_once(beside: &Node, leading: &Node, score: u64) -> bool {
    let little = i64::try_from(score / LITTLE).unwrap_or(i64::MAX);
    let least = i64::try_from(score - score / LITTLE).unwrap_or(i64::MAX);
    let at_once = beside.end.min(leading.end).saturating_sub(beside.start.max(leading.start));
    at_once >= least && leading.end.saturating_sub(beside.end) <= little
}

#[cfg(test)]
mod tests {
    use crate::compare::testing::{TraceSpec, both_verdicts, culprit_of, named, verdict_of};
    use crate::compare::{Outcome, Reason};

    const MS: i64 = 1000;

    /// gw asks a, b and c at once, which take so many milliseconds.
    fn fan(took: [i64; 3]) -> TraceSpec {
        let longest = took.into_iter().max().unwrap_or(0);
        let mut spec = TraceSpec::default().server((1, 0), ("gw", "GET /"), (0, (longest + 20) * MS));
        for ((name, took), id) in ["a", "b", "c"].into_iter().zip(took).zip([2, 4, 6]) {
            spec = spec.client((id, 1), ("gw", name), (5 * MS, (10 + took) * MS)).server(
                (id + 1, id),
                (name, "work"),
                (6 * MS, (9 + took) * MS),
            );
        }
        spec
    }

    fn check(slow: [i64; 3], expected: Option<&str>) {
        let fast = &[fan([50, 52, 54])];
        for verdict in both_verdicts(fast, &fan(slow)) {
            match expected {
                Some(service) => assert_eq!(culprit_of(&verdict).service, service, "{slow:?}"),
                None => {
                    assert_eq!(
                        verdict.outcome,
                        Outcome::Inconclusive(Reason::Tie),
                        "{}",
                        verdict.explanation
                    );
                    assert!(verdict.explanation.contains("ran at once"), "{}", verdict.explanation);
                }
            }
        }
    }

    /// Without any one of them the trace would have been as slow, and the first by name was called the culprit.
    #[test]
    fn services_that_ran_at_once_and_grew_alike_are_a_tie() {
        check([350, 350, 350], None);
        check([350, 349, 50], None);
        check([50, 340, 350], None);
    }

    /// A gateway of the recorded systems has one, and was called a rival of whomever it waited for.
    #[test]
    fn a_second_span_of_who_waits_is_no_rival() {
        let waiting = |took: i64| {
            TraceSpec::default()
                .server((1, 0), ("gw", "GET /"), (0, (took + 20) * MS))
                .client((2, 1), ("gw", "a"), (5 * MS, (10 + took) * MS))
                .server((3, 2), ("a", "work"), (6 * MS, (9 + took) * MS))
                .internal((4, 1), ("gw", "filter"), (5 * MS, (10 + took) * MS))
        };
        assert_eq!(culprit_of(&verdict_of(&[waiting(50)], &waiting(350))).service, "a");
    }

    /// The reference went through the one that is not named: which one ends later is chance then as well.
    #[test]
    fn services_that_ran_at_once_and_of_which_the_other_was_on_the_path_before_are_a_tie() {
        let fast = &[fan([100, 90, 10])];
        for verdict in both_verdicts(fast, &fan([190, 200, 10])) {
            assert_eq!(named(&verdict), Err(Reason::Tie), "{}", verdict.explanation);
        }
    }

    /// gw asks a, b and c at once, notices the answers `late` by so many milliseconds, and asks its database meanwhile.
    fn paused(late: i64, took: [i64; 3], database: i64) -> TraceSpec {
        let mut spec = fan(took);
        for span in spec.spans.iter_mut().filter(|span| span.service == "gw") {
            span.end += (late + if span.parent == 0 { database } else { 0 }) * MS;
        }
        spec.client((8, 1), ("gw", "SELECT"), (5 * MS, (20 + database) * MS))
            .with(|span| span.attributes.push(("db.system.name", "postgresql")))
    }

    #[test]
    fn waits_that_ran_at_once_and_grew_alike_are_a_tie() {
        for took in [[50, 52, 54], [50, 50, 66]] {
            let fast = &[paused(0, took, 0)];
            let slow = paused(100, took, 0);
            for verdict in both_verdicts(fast, &slow) {
                assert_eq!(named(&verdict), Err(Reason::Tie), "{}", verdict.explanation);
            }
        }
    }

    #[test]
    fn a_database_beside_a_service_that_grew_alike_is_a_rival() {
        let fast = &[paused(0, [50, 5, 5], 30)];
        let slow = paused(0, [250, 5, 5], 235);
        for verdict in both_verdicts(fast, &slow) {
            assert_eq!(named(&verdict), Err(Reason::Tie), "{}", verdict.explanation);
        }
    }

    #[test]
    fn a_service_that_grew_much_more_than_those_beside_it_is_named() {
        check([350, 50, 54], Some("a"));
        check([50, 350, 250], Some("b"));
    }
}
