//! The reliability of confidence as a picture: SVG that suits light pages and dark ones.

use std::io::{self, Write};

use super::reliability::Reliability;

/// Pixels of a side of the square, and around it.
const SIDE: f64 = 320.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 16.0;
const WIDTH: f64 = LEFT + SIDE + 24.0;
const HEIGHT: f64 = TOP + SIDE + 56.0;

/// Draws the share of verdicts that were right over what they said, with a dot a bin whose area grows with the
/// logarithm of its verdicts; what keeps its word lies on the diagonal.
pub fn write(reliability: &Reliability, out: &mut dyn Write) -> io::Result<()> {
    let right = |x: f64| LEFT + x * SIDE;
    let up = |y: f64| TOP + (1.0 - y) * SIDE;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" role=\"img\" aria-label=\"Share of verdicts that were right by their confidence\">\n\
         <style>\n\
         text {{ font: 12px sans-serif; fill: #333; }}\n\
         .grid {{ stroke: #ccc; }} .true {{ stroke: #888; stroke-dasharray: 4 3; }}\n\
         .off {{ stroke: #c2410c; stroke-width: 2; }} .dot {{ fill: #2563eb; }}\n\
         @media (prefers-color-scheme: dark) {{\n\
         text {{ fill: #ddd; }} .grid {{ stroke: #444; }} .true {{ stroke: #999; }}\n\
         .off {{ stroke: #fb923c; }} .dot {{ fill: #60a5fa; }}\n\
         }}\n\
         </style>"
    )?;
    for tick in 0..=5 {
        let at = f64::from(tick) / 5.0;
        let (x, y) = (right(at), up(at));
        let (end, bottom) = (LEFT + SIDE, TOP + SIDE);
        writeln!(out, "<line class=\"grid\" x1=\"{x}\" y1=\"{TOP}\" x2=\"{x}\" y2=\"{bottom}\"/>")?;
        writeln!(out, "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y}\" x2=\"{end}\" y2=\"{y}\"/>")?;
        writeln!(out, "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{at}</text>", bottom + 16.0)?;
        writeln!(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{at}</text>", LEFT - 6.0, y + 4.0)?;
    }
    let (zero, one) = ((right(0.0), up(0.0)), (right(1.0), up(1.0)));
    let ends = format!("x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"", zero.0, zero.1, one.0, one.1);
    writeln!(out, "<line class=\"true\" {ends}/>")?;
    for (_, bin) in reliability.bins() {
        let (said, happened) = (bin.confidence(), bin.right());
        let (x, from, to) = (right(said), up(said), up(happened));
        let radius = 2.0 + (bin.count as f64).log10().sqrt() * 2.5;
        let title = format!("{} verdicts: said {said:.2}, right {happened:.2}", bin.count);
        writeln!(
            out,
            "<line class=\"off\" x1=\"{x:.1}\" y1=\"{from:.1}\" x2=\"{x:.1}\" y2=\"{to:.1}\"/>\n\
             <circle class=\"dot\" cx=\"{x:.1}\" cy=\"{to:.1}\" r=\"{radius:.1}\"><title>{title}</title></circle>"
        )?;
    }
    let middle = TOP + SIDE / 2.0;
    writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">confidence</text>\n\
         <text x=\"14\" y=\"{middle}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {middle})\">\
         share that was right</text>\n</svg>",
        LEFT + SIDE / 2.0,
        TOP + SIDE + 40.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Category, Grounds};
    use crate::simulate::reliability::Sample;

    #[test]
    fn each_bin_with_verdicts_is_a_dot_at_what_came_of_it() {
        let sample = |is_right| Sample { category: Category::OwnTime, grounds: Grounds::default(), is_right };
        let reliability = Reliability::of(&[sample(true), sample(false)], |_| 0.75);
        let mut svg = Vec::new();
        write(&reliability, &mut svg).expect("written");
        let svg = String::from_utf8(svg).expect("text");
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(svg.contains("cx=\"296.0\" cy=\"176.0\""), "{svg}");
        assert!(svg.contains("2 verdicts: said 0.75, right 0.50"));
    }
}
