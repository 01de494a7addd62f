// A palette with distinct colors, for the tests of figures.

export const COLORS = {
  ink: "#000001",
  ink2: "#000002",
  line: "#000003",
  surface: "#000004",
  preferred: "#0000ff",
  dispreferred: "#ff8800",
  other: "#888888",
  series: ["#100000", "#200000", "#300000", "#400000"],
  runs: ["#100000", "#200000", "#300000"],
  sans: "sans",
  dark: false,
};
