//! Two texts, line by line: what goes and what comes.

/// Texts with more lines than this are not compared line by line.
const MOST_LINES: usize = 4000;

/// The lines that differ, `-` before those of `old`, `+` before those of `new`, with one line of context around them.
/// Empty when nothing differs.
#[must_use]
pub fn differences(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    if old.len().max(new.len()) > MOST_LINES {
        return String::from("(too long to compare)\n");
    }
    let steps = steps(&old, &new);
    let is_kept = |index: usize| matches!(steps.get(index), Some((' ', _)) | None);
    let near = |index: usize| {
        !is_kept(index) || !is_kept(index + 1) || index.checked_sub(1).is_some_and(|before| !is_kept(before))
    };
    let mut text = String::new();
    let mut last = None;
    for (index, (mark, line)) in steps.iter().enumerate().filter(|(index, _)| near(*index)) {
        if last.is_some_and(|last| last + 1 < index) {
            text.push_str("  …\n");
        }
        last = Some(index);
        text.push_str(format!("{mark} {line}").trim_end());
        text.push('\n');
    }
    text
}

/// The longest common subsequence, as the steps that lead from one to the other.
fn steps<'t>(old: &[&'t str], new: &[&'t str]) -> Vec<(char, &'t str)> {
    let width = new.len() + 1;
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for before in (0..old.len()).rev() {
        for after in (0..new.len()).rev() {
            common[before * width + after] = if old[before] == new[after] {
                common[(before + 1) * width + after + 1] + 1
            } else {
                common[(before + 1) * width + after].max(common[before * width + after + 1])
            };
        }
    }
    let (mut before, mut after) = (0, 0);
    let mut steps = Vec::new();
    while before < old.len() || after < new.len() {
        let both = before < old.len() && after < new.len();
        if both && old[before] == new[after] {
            steps.push((' ', old[before]));
            before += 1;
            after += 1;
        } else if after >= new.len()
            || (before < old.len() && common[(before + 1) * width + after] >= common[before * width + after + 1])
        {
            steps.push(('-', old[before]));
            before += 1;
        } else {
            steps.push(('+', new[after]));
            after += 1;
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown_with_its_neighbours() {
        let old = "a\nb\nc\nd\ne\nf\n";
        assert_eq!(differences(old, "a\nb\nC\nd\ne\nf\ng\n"), "  b\n- c\n+ C\n  d\n  …\n  f\n+ g\n");
        assert_eq!(differences(old, old), "");
        assert_eq!(differences("", "x\n"), "+ x\n");
    }

    proptest::proptest! {
        #[test]
        fn the_steps_lead_from_one_to_the_other(old in "[ab\n]{0,30}", new in "[ab\n]{0,30}") {
            let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
            let steps = steps(&old, &new);
            let side = |skip: char| steps.iter().filter(|(mark, _)| *mark != skip).map(|(_, line)| *line).collect::<Vec<_>>();
            proptest::prop_assert_eq!(side('+'), old);
            proptest::prop_assert_eq!(side('-'), new);
        }
    }
}
