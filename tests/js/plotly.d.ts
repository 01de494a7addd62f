// What the pages call of Plotly, which comes with the plotly wheel as a classic script, without types.
declare const Plotly: {
  react(plot: HTMLElement, data: object[], layout: object, config: object): Promise<HTMLElement>;
  extendTraces(plot: HTMLElement, update: object, traces: number[], window?: number): Promise<HTMLElement>;
  purge(plot: HTMLElement): void;
  toImage(figure: object, options: object): Promise<string>;
};
