"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { report, queries, main, time } = data;
  const rows = report.rows;
  const first = rows[0];
  const place = new Map(rows.map((row, number) => [row.name, number]));
  const best = report.harm ? report.harm.ranker : data.best;
  const byId = (id) => document.getElementById(id);
  const shown = (name) => data.shown[place.get(name)];
  const four = (value) => value.toFixed(4);
  const signed = (value, digits = 4) => (value < 0 ? "" : "+") + value.toFixed(digits);
  const count = (number, one, several = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : several}`;

  // Strings become text nodes: whatever a passage holds is never markup.
  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === undefined || value === null || value === false) continue;
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  function tell(text) {
    byId("told").textContent = text;
  }

  // ---------------------------------------------------------------------------------------------------------------- tables

  function leading(cell) {
    const found = /^[<]?([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)/i.exec(cell);
    return found ? Number(found[1]) - (cell.startsWith("<") ? 1e-12 : 0) : null; // below, and so before, its equal
  }

  /* A table that its headers sort; only one page of its rows is in the document.
     columns: [{header, text, long, value(row), show(row)}]; rows are numbers from 0 to count - 1. */
  function sortable(host, { label, columns, count: size, page = Infinity, sort = null, rowClass = () => null }) {
    let order = Array.from({ length: size }, (_, number) => number);
    let wanted = order;
    let at = 0;
    const headers = columns.map((column, number) => {
      const kind = [column.text ? "text" : null, column.long ? "long" : null].filter(Boolean).join(" ") || null;
      const button = el("button", { type: "button", onclick: () => sortBy(number) }, column.header);
      return el("th", { scope: "col", class: kind, "aria-sort": "none" }, button);
    });
    const body = el("tbody");
    const table = el("table", {}, el("caption", { class: "hidden" }, label), el("thead", {}, el("tr", {}, ...headers)), body);
    const back = el("button", { type: "button", onclick: () => turn(-1) }, "Previous");
    const forth = el("button", { type: "button", onclick: () => turn(1) }, "Next");
    const where = el("span", { role: "status" });
    const scroll = el("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, table);
    host.replaceChildren(scroll);
    if (page < Infinity) host.append(el("div", { class: "pager" }, back, where, forth));

    function sortBy(number) {
      const falls = sort && sort.column === number ? !sort.falls : !columns[number].text;
      sort = { column: number, falls };
      arrange();
    }
    function turn(by) {
      at += by * page;
      draw();
      if (back.disabled && document.activeElement === document.body) forth.focus();
      if (forth.disabled && document.activeElement === document.body) back.focus();
    }
    function arrange() {
      order = [...wanted];
      if (sort) {
        const values = new Map(order.map((row) => [row, columns[sort.column].value(row)]));
        const way = sort.falls ? -1 : 1;
        order.sort((a, b) => {
          const [left, right] = [values.get(a), values.get(b)];
          if (left === null || right === null) return (left === null) - (right === null); // without a value: last, either way
          return way * (typeof left === "string" ? left.localeCompare(right) : left - right);
        });
      }
      headers.forEach((header, number) => {
        const here = sort && sort.column === number;
        header.setAttribute("aria-sort", here ? (sort.falls ? "descending" : "ascending") : "none");
      });
      at = 0;
      draw();
    }
    function draw() {
      const part = page < Infinity ? order.slice(at, at + page) : order;
      body.replaceChildren(
        ...part.map((row) =>
          el(
            "tr",
            { class: rowClass(row) },
            ...columns.map((column, number) => {
              const kind = [column.text ? "text" : null, column.long ? "long" : null].filter(Boolean).join(" ") || null;
              return el(number === 0 ? "th" : "td", { class: kind, scope: number === 0 ? "row" : null }, column.show(row));
            }),
          ),
        ),
      );
      where.textContent = order.length ? `${at + 1} to ${at + part.length} of ${order.length.toLocaleString("en")}` : "none";
      back.disabled = at === 0;
      forth.disabled = at + page >= order.length;
      back.parentElement?.toggleAttribute("hidden", order.length <= page && size <= page);
    }
    arrange();
    return {
      draw,
      show(those) {
        wanted = those;
        arrange();
      },
    };
  }

  // A table of report.md; its cells are as they stand there.
  function columnsOf(columns) {
    return columns.map((column) => ({
      header: column.header,
      text: column.text,
      value: (row) => (column.text ? column.cells[row] : leading(column.cells[row])),
      show: (row) => column.cells[row],
    }));
  }

  function notes(lines) {
    return el("ul", { class: "notes" }, ...lines.map((line) => el("li", {}, line)));
  }

  const drawn = new Set();
  function section(host, title, folded) {
    const found = data.sections[title];
    if (!found) return;
    drawn.add(title);
    const table = el("div");
    sortable(table, { label: title, columns: columnsOf(found.columns), count: found.columns[0].cells.length });
    if (folded) host.append(el("details", { class: "more" }, el("summary", {}, folded), table, notes(found.notes)));
    else host.append(el("h3", {}, title), table, notes(found.notes));
  }

  // ----------------------------------------------------------------------------------------------------------------- plots

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const SHAPES = ["circle", "rect", "triangle", "diamond", "roundRect", "arrow"];
  const different = (names) => [...new Set(names)];
  const procedures = different(data.procedure);
  const sizes = different(data.size);
  const plots = [];
  let printing = false;
  // A procedure's colour and a size's shape, the same in every plot.
  const colourOf = (row) => colour(`c${procedures.indexOf(data.procedure[place.get(row.name)]) % 12}`);
  const sizeOf = (row) => sizes.indexOf(data.size[place.get(row.name)]);
  const shapeOf = (row) => SHAPES[sizeOf(row) % SHAPES.length];
  const stroke = (row, width = 1.5) => ({ color: colourOf(row), width, type: ["solid", "dashed", "dotted"][sizeOf(row) % 3] });
  const ring = (look) => ({
    symbol: "circle",
    symbolSize: 14,
    itemStyle: { color: "transparent", borderColor: look, borderWidth: 2 },
  });

  /* Draws into a host, again whenever colours change. make() returns {option, points, label}: points are [{series, index,
     told, lines}], which arrow keys visit, and choose(point) is what Enter and a click do. */
  function plot(id, make, choose = null) {
    const host = byId(id);
    const chart = echarts.init(host, null, { renderer: "canvas" });
    let points = [];
    let at = -1;
    host.tabIndex = 0;
    host.setAttribute("role", "group");
    host.setAttribute("aria-roledescription", "plot");
    function draw() {
      const made = make();
      points = made.points;
      at = -1;
      host.setAttribute("aria-label", `${made.label} Arrow keys visit the points${choose ? ", Enter opens one" : ""}.`);
      chart.setOption(framed(made.option, tip), { notMerge: true });
    }
    function of(event) {
      return points.find((point) => point.series === event.seriesIndex && point.index === event.dataIndex);
    }
    function tip(event) {
      const point = of(event);
      return point
        ? el("div", { class: "tip" }, el("b", {}, point.told), ...point.lines.map((line) => el("div", {}, line)))
        : "";
    }
    function visit(number) {
      if (!points.length) return;
      at = Math.max(0, Math.min(points.length - 1, number));
      const point = points[at];
      chart.dispatchAction({ type: "showTip", seriesIndex: point.series, dataIndex: point.index });
      tell([point.told, ...point.lines].join(", "));
    }
    host.addEventListener("keydown", (event) => {
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: points.length - 1 }[event.key];
      if (to !== undefined) visit(to);
      else if (event.key === "Escape") chart.dispatchAction({ type: "hideTip" });
      else if (event.key === "Enter" && choose && at >= 0) choose(points[at]);
      else return;
      event.preventDefault();
    });
    host.addEventListener("blur", () => chart.dispatchAction({ type: "hideTip" }));
    if (choose) chart.on("click", (event) => of(event) && choose(of(event)));
    new ResizeObserver(() => printing || chart.resize()).observe(host);
    draw();
    const one = { draw, chart, points: () => points };
    plots.push(one);
    return one;
  }

  function framed(option, tip) {
    const text = { color: colour("text"), fontFamily: getComputedStyle(document.body).fontFamily };
    const axis = (given) => ({
      axisLine: { lineStyle: { color: colour("line") } },
      axisTick: { show: false },
      splitLine: { lineStyle: { color: colour("grid") } },
      nameLocation: "middle",
      nameTextStyle: { color: colour("quiet") },
      ...given,
      axisLabel: { color: colour("quiet"), hideOverlap: true, ...given.axisLabel },
    });
    return {
      animation: false,
      textStyle: text,
      grid: { left: 4, right: 18, top: option.legend ? 44 : 14, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "all" },
      tooltip: {
        trigger: "item",
        confine: true,
        formatter: tip,
        transitionDuration: 0,
        padding: [6, 10],
        backgroundColor: colour("ground"),
        borderColor: colour("line"),
        textStyle: { ...text, fontSize: 13 },
      },
      ...option,
      legend: option.legend && {
        type: "scroll",
        left: 0,
        top: 4,
        itemHeight: 9,
        itemWidth: 16,
        textStyle: { color: colour("text") },
        pageIconColor: colour("accent"),
        pageIconInactiveColor: colour("line"),
        pageTextStyle: { color: colour("quiet") },
        ...option.legend,
      },
      xAxis: axis(option.xAxis),
      yAxis: axis(option.yAxis),
    };
  }

  const quality = () => ({
    type: "value",
    scale: true,
    name: main,
    nameGap: 46,
    axisLabel: { formatter: (value) => value.toFixed(3) },
  });

  function logTicks(low, high) {
    const steps = high / low < 30 ? [1, 1.5, 2, 3, 5, 7] : high / low < 3000 ? [1, 2, 5] : [1];
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.log10(high) + 1; power++)
      for (const step of steps) ticks.push(Number((step * 10 ** power).toPrecision(3)));
    return ticks.filter((tick) => tick >= low && tick <= high);
  }

  const line = (values, looks) => ({
    type: "line",
    data: values,
    symbol: "none",
    silent: true,
    tooltip: { show: false },
    z: 1,
    ...looks,
  });
  const level = (from, to) =>
    line(
      [
        [from, first.measures[main]],
        [to, first.measures[main]],
      ],
      {
        lineStyle: { opacity: 0 },
        markLine: {
          silent: true,
          symbol: "none",
          lineStyle: { color: colour("quiet"), type: "dashed", width: 1 },
          label: { formatter: first.name, position: "insideEndTop", color: colour("quiet") },
          data: [{ yAxis: first.measures[main] }],
        },
      },
    ); // the line itself only makes room: a mark alone doesn't

  function drawFrontier() {
    const timed = rows.filter((row) => row !== first && row.speed[time] !== undefined);
    if (!timed.length) return byId("frontier").remove();
    byId("frontier").querySelector(".about").textContent =
      "Further up is better, further left is faster. The line joins the rankers that no other beats at their speed.";
    const frontier = data.frontier.map((name) => rows[place.get(name)]);
    const at = (row) => [row.speed[time], row.measures[main]];
    const one = plot(
      "frontier-chart",
      () => {
        const log = byId("log").checked;
        const costs = timed.map((row) => row.speed[time]);
        const [low, high] = [Math.min(...costs) / 1.5, Math.max(...costs) * 1.5];
        const ticks = logTicks(low, high);
        const middle = Math.sqrt(low * high);
        const series = timed.map((row) => {
          const on = data.frontier.includes(row.name) && data.frontier.length <= 8;
          return {
            type: "scatter",
            name: shown(row.name),
            data: [at(row)],
            symbolSize: 12,
            z: 3,
            symbol: shapeOf(row),
            itemStyle: { color: colourOf(row), opacity: 1 },
            // Left and above of a point on the frontier nothing is; near the left edge there is no room for a name.
            label: {
              show: on,
              formatter: shown(row.name),
              color: colour("text"),
              distance: 8,
              ...(at(row)[0] > middle ? { position: "left", offset: [0, -9] } : { position: "right", offset: [0, 11] }),
            },
          };
        });
        const spreads = timed
          .filter((row) => row.spread[main])
          .map((row) => {
            const [cost, value] = at(row);
            return line(
              [
                [cost, value - row.spread[main]],
                [cost, value + row.spread[main]],
              ],
              { lineStyle: { color: colourOf(row), width: 1 } },
            );
          });
        const steps = frontier.map(at);
        steps.push([high, steps[steps.length - 1][1]]);
        const joined = line(steps, { step: "end", lineStyle: { color: colour("quiet"), width: 1 } });
        return {
          label:
            `${main} over milliseconds of ${count(timed.length, "ranker")}, ${Math.min(...costs).toFixed(1)} to ` +
            `${Math.max(...costs).toFixed(1)} ms. On the frontier: ${frontier
              .map((row) => `${row.name} (${at(row)[0].toFixed(1)} ms, ` + `${four(at(row)[1])})`)
              .join(", ")}. The table above holds the numbers.`,
          points: timed.map((row, number) => ({
            series: number,
            index: 0,
            row,
            told: shown(row.name),
            lines: [
              `${main} ${four(at(row)[1])}${row.spread[main] ? ` ±${four(row.spread[main])}` : ""}`,
              `${at(row)[0].toFixed(1)} ms a query`,
              row.speed.parameters ? `${(row.speed.parameters / 1e6).toFixed(2)} M parameters` : null,
            ].filter(Boolean),
          })),
          option: {
            legend: { data: timed.map((row) => shown(row.name)), itemWidth: 9 },
            xAxis: {
              type: log ? "log" : "value",
              min: log ? low : 0,
              max: high,
              nameGap: 30,
              name: `ms per query${data.passages ? ` of ${Math.round(data.passages)} passages` : ""}`,
              ...(log
                ? {
                    axisTick: { show: false, customValues: ticks },
                    axisLabel: { customValues: ticks, formatter: (value) => `${+value.toPrecision(3)}` },
                    splitLine: { show: false },
                  }
                : {}),
            },
            yAxis: quality(),
            series: [...series, ...spreads, joined, level(low, high)],
          },
        };
      },
      (point) => choose(point.row.name),
    );
    byId("log").addEventListener("change", one.draw);
  }

  function drawDepths() {
    const known = rows.filter((row) => row.depth);
    if (!known.length) return byId("depth").remove();
    byId("depth").querySelector(".about").textContent =
      "Only so many candidates re-ranked, the others as the first stage has them. A ring: from there on no gain is found, or quality decays.";
    const ticks = known[0].depth.points.map((point) => point.candidates);
    const worth = (row) => row.depth.peak ?? row.depth.ends;
    const deepest = (row) => row.depth.points[row.depth.points.length - 1].candidates;
    const told = (row) =>
      row.depth.peak !== null
        ? `peaks at ${row.depth.peak} and decays`
        : worth(row) === deepest(row)
          ? "every candidate counts"
          : `no gain found from ${worth(row)} on`;
    plot("depth-chart", () => ({
      label:
        `${main} by number of candidates. ${known
          .map(
            (row) =>
              `${row.name}: ${four(row.depth.points[0].value)} to ` +
              `${four(row.depth.points[row.depth.points.length - 1].value)}, ${told(row)}`,
          )
          .join("; ")}. ` + "The table below holds the numbers.",
      points: known.flatMap((row, series) =>
        row.depth.points.map((point, index) => ({
          series,
          index,
          told: shown(row.name),
          lines: [
            `${count(point.candidates, "candidate")}: ${main} ${four(point.value)}`,
            point.ms === null ? null : `${point.ms.toFixed(1)} ms a query`,
            point.candidates === worth(row) ? told(row) : null,
          ].filter(Boolean),
        })),
      ),
      option: {
        legend: { data: known.map((row) => shown(row.name)) },
        xAxis: {
          type: "log",
          min: 0.9,
          max: ticks[ticks.length - 1] * 1.1,
          name: "candidates re-ranked of each query (log scale)",
          nameGap: 30,
          axisLabel: { customValues: ticks, formatter: (value) => `${Math.round(value)}` },
          axisTick: { show: false, customValues: ticks },
          splitLine: { show: false },
        },
        yAxis: quality(),
        series: [
          ...known.map((row) => ({
            type: "line",
            name: shown(row.name),
            lineStyle: stroke(row),
            itemStyle: { color: colourOf(row) },
            symbol: shapeOf(row),
            symbolSize: 7,
            data: row.depth.points.map((point) => ({
              value: [point.candidates, point.value],
              ...(point.candidates === worth(row) && worth(row) !== deepest(row) ? ring(colourOf(row)) : {}),
            })),
          })),
          level(ticks[0], ticks[ticks.length - 1]),
        ],
      },
    }));
    section(byId("depth").querySelector(".tables"), "Depth", "As a table");
  }

  function drawReliability() {
    const known = rows.filter((row) => row.calibration);
    if (!known.length) return byId("reliability").remove();
    byId("reliability").querySelector(".about").textContent =
      `Probabilities fitted on validation, against the share of the test's pairs that is relevant. Small points: fewer than ${data.least} pairs.`;
    plot("reliability-chart", () => ({
      label: `Share of relevant pairs by probability. ${known
        .map((row) => `${row.name}: expected calibration error ` + `${four(row.calibration.error)}`)
        .join("; ")}. The tables below hold the numbers.`,
      points: known.flatMap((row, series) =>
        row.calibration.bins.map((bin, index) => ({
          series,
          index,
          told: shown(row.name),
          lines: [
            `probability ${bin.predicted.toFixed(3)}: ${bin.relevant.toFixed(3)} relevant`,
            `of ${count(bin.pairs, "pair")}`,
          ],
        })),
      ),
      option: {
        legend: { data: known.map((row) => shown(row.name)) },
        xAxis: { type: "value", min: 0, max: 1, name: "probability", nameGap: 30 },
        yAxis: { type: "value", min: 0, max: 1, name: "share relevant", nameGap: 36 },
        series: [
          ...known.map((row) => ({
            type: "line",
            name: shown(row.name),
            lineStyle: stroke(row),
            itemStyle: { color: colourOf(row) },
            clip: false,
            symbol: shapeOf(row),
            data: row.calibration.bins.map((bin) => ({
              value: [bin.predicted, bin.relevant],
              symbolSize: bin.pairs < data.least ? 4 : 8,
            })),
          })),
          line(
            [
              [0, 0],
              [1, 1],
            ],
            { lineStyle: { color: colour("quiet"), type: "dashed", width: 1 } },
          ),
        ],
      },
    }));
    const host = byId("reliability").querySelector(".tables");
    section(host, "Probability of relevance", "Probabilities and thresholds");
    section(host, "Reliability", "The plot as a table");
  }

  // --------------------------------------------------------------------------------------------------------------- queries

  const lower = queries.ids.map((id, number) => `${id}\n${queries.texts[number]}`.toLowerCase());
  const everyQuery = queries.ids.map((_, number) => number);
  const state = { picked: null, opened: null };
  let list = null;
  let scatter = null;
  const values = (name) => queries.values[name][byId("measure").value];
  const other = () => byId("against").value;
  const chosen = () => byId("ranker").value;

  function matching() {
    if (state.picked) return state.picked;
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    return words.length ? everyQuery.filter((number) => words.every((word) => lower[number].includes(word))) : everyQuery;
  }

  function named(number) {
    return queries.texts[number] || queries.ids[number];
  }

  function opener(number) {
    return el("button", { type: "button", onclick: () => open(number) }, named(number));
  }

  function drawQueries() {
    const measures = Object.keys(first.measures);
    byId("measure").append(...measures.map((name) => el("option", { value: name }, name)));
    byId("measure").value = main;
    for (const id of ["against", "ranker"])
      byId(id).append(...rows.map((row) => el("option", { value: row.name }, shown(row.name))));
    byId("ranker").value = best;
    byId("against").value = report.teacher && report.teacher !== best ? report.teacher : first.name;
    const difference = (number) => values(chosen())[number] - values(other())[number];
    list = sortable(byId("list"), {
      label: "Queries",
      count: everyQuery.length,
      page: 12,
      sort: { column: 1, falls: false },
      rowClass: (number) => (number === state.opened ? "chosen" : null),
      columns: [
        { header: "Query", text: true, long: true, value: named, show: opener },
        { header: "Difference", value: difference, show: (number) => signed(difference(number)) },
        { header: "Ranker", value: (number) => values(chosen())[number], show: (number) => four(values(chosen())[number]) },
        { header: "Against", value: (number) => values(other())[number], show: (number) => four(values(other())[number]) },
      ],
    });
    scatter = plot("scatter-chart", scattered, (point) => {
      if (point.queries.length === 1) return open(point.queries[0]);
      state.picked = point.queries;
      return refresh();
    });
    for (const id of ["ranker", "against", "measure"])
      byId(id).addEventListener("change", () => {
        state.picked = null;
        refresh();
        if (state.opened !== null) open(state.opened, false);
      });
    let waiting = false;
    byId("search").addEventListener("input", () => {
      state.picked = null;
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        refresh();
      });
    });
    byId("search").addEventListener(
      "keydown",
      (event) => event.key === "Enter" && matching().length === 1 && open(matching()[0]),
    );
    refresh();
  }

  function refresh() {
    const those = matching();
    const found = byId("found");
    found.replaceChildren(`${count(those.length, "query", "queries")} of ${everyQuery.length.toLocaleString("en")}`);
    if (state.picked)
      found.append(
        " at the point chosen. ",
        el(
          "button",
          {
            type: "button",
            onclick: () => {
              state.picked = null;
              refresh();
              byId("search").focus();
            },
          },
          "All queries",
        ),
      );
    const mean = (name) => values(name).reduce((sum, value) => sum + value, 0) / everyQuery.length;
    byId("queries").querySelector(".about").textContent =
      `A point is a query, or several with equal values. Above the line ${chosen()} (mean ${four(mean(chosen()))}) is better than ` +
      `${other()} (${four(mean(other()))}).`;
    list.show(those);
    scatter.draw();
    table?.draw();
  }

  function scattered() {
    const [x, y] = [values(other()), values(chosen())];
    const those = matching();
    const here = new Set(those);
    const groups = new Map();
    for (const number of everyQuery) {
      const key = `${here.has(number)} ${x[number].toFixed(4)} ${y[number].toFixed(4)}`;
      if (!groups.has(key)) groups.set(key, { here: here.has(number), at: [x[number], y[number]], queries: [] });
      groups.get(key).queries.push(number);
    }
    const points = [];
    const series = [false, true].map((inside, number) => {
      const own = [...groups.values()].filter((group) => group.here === inside);
      own.sort((a, b) => a.at[1] - a.at[0] - (b.at[1] - b.at[0]));
      if (inside || !those.length)
        own.forEach((group, index) =>
          points.push({
            series: number,
            index,
            queries: group.queries,
            lines: [
              `${chosen()} ${four(group.at[1])}`,
              `${other()} ${four(group.at[0])}`,
              ...(group.queries.length > 1 ? group.queries.slice(0, 4).map(named) : []),
              ...(group.queries.length > 4 ? ["..."] : []),
            ],
            told: group.queries.length > 1 ? `${group.queries.length} queries` : named(group.queries[0]),
          }),
        );
      const many = own.length > 3000; // drawn in one go, all of one size
      return {
        type: "scatter",
        large: many,
        largeThreshold: 3000,
        data: own.map((group) => group.at),
        z: 2 + number,
        silent: !inside,
        symbolSize: many ? 5 : (_, event) => Math.min(6 + 2 * Math.sqrt(own[event.dataIndex].queries.length - 1), 26),
        itemStyle: { color: colour(inside ? "c0" : "quiet"), opacity: inside ? 0.6 : 0.18 },
      };
    });
    const marked = state.opened === null ? [] : [[x[state.opened], y[state.opened]]];
    series.push(
      line(
        [
          [0, 0],
          [1, 1],
        ],
        { lineStyle: { color: colour("quiet"), type: "dashed", width: 1 } },
      ),
    );
    series.push({ type: "scatter", data: marked, silent: true, z: 5, ...ring(colour("alarm")) });
    const axis = (name) => ({ type: "value", min: 0, max: 1, name: `${byId("measure").value} of ${name}` });
    const above = those.filter((number) => y[number] > x[number]).length;
    const below = those.filter((number) => y[number] < x[number]).length;
    return {
      points,
      label:
        `${byId("measure").value} of ${count(those.length, "query", "queries")}: ${chosen()} is better in ${above}, worse in ${below}. ` +
        "The table beside it lists them.",
      option: { xAxis: { ...axis(other()), nameGap: 30 }, yAxis: { ...axis(chosen()), nameGap: 36 }, series },
    };
  }

  function choose(name) {
    byId("ranker").value = name;
    if (other() === name) byId("against").value = first.name;
    byId("ranker").dispatchEvent(new Event("change"));
    byId("queries").scrollIntoView();
    tell(`${name} is chosen for the queries.`);
  }

  // Scores of a first stage are of another kind than a ranker's.
  const comparable = () => chosen() !== other() && ![chosen(), other()].includes(first.name);

  function open(number, go = true) {
    state.opened = number;
    const id = queries.ids[number];
    const found = queries.opened[id];
    const names = different([first.name, other(), chosen()]);
    byId("open").hidden = false;
    byId("h-open").textContent = named(number);
    const gaps = comparable() ? `, in brackets the score less that of ${other()}` : "";
    byId("open-values").textContent =
      `${id}. ${byId("measure").value}: ${names.map((name) => `${shown(name)} ${four(values(name)[number])}`).join(", ")}.` +
      (found ? ` ▲ ▼: places gained or lost against ${first.name}${gaps}.` : "") +
      (names.some((name) => rows[place.get(name)].seeds > 1)
        ? " Measures are means over seeds; order and scores those of the first seed."
        : "");
    if (found) byId("rankings").replaceChildren(...names.map((name) => ranking(found, name)));
    else
      byId("rankings").replaceChildren(
        el(
          "p",
          {},
          `This file holds the passages of ${Object.keys(queries.opened).length} of ` +
            `${everyQuery.length.toLocaleString("en")} queries, this one's not: the worst, the best and some others. The runs' folders have ` +
            "its rankings (test.run).",
        ),
      );
    list.draw();
    if (go) {
      scatter.draw();
      byId("open").focus({ preventScroll: true });
      byId("open").scrollIntoView({ block: "start" });
    }
  }

  function ranking(found, name) {
    const own = found.rows[name];
    const before = found.rows[first.name].places;
    const beside = found.rows[other()].scores;
    const relevant = (at) => found.grades[at] !== null && found.grades[at] >= queries.level;
    const order = found.passages
      .map((_, at) => at)
      .filter((at) => own.places[at] !== null && (own.places[at] <= data.top || relevant(at)));
    order.sort((a, b) => own.places[a] - own.places[b]);
    const items = order.map((at) => {
      const moved = before[at] === null ? null : before[at] - own.places[at];
      const score = own.scores[at];
      const gap = name === chosen() && comparable() && score !== null && beside[at] !== null;
      const text = queries.passages[found.passages[at]];
      const item = el(
        "li",
        { class: relevant(at) ? "relevant" : null },
        el(
          "div",
          { class: "line" },
          el("b", {}, `${own.places[at]}`),
          name === first.name || moved === null
            ? null
            : el("span", {}, moved > 0 ? `▲ ${moved}` : moved < 0 ? `▼ ${-moved}` : "as before"),
          el(
            "span",
            { class: relevant(at) ? "grade" : null },
            found.grades[at] === null ? "not judged" : `${relevant(at) ? "relevant, " : ""}grade ${found.grades[at]}`,
          ),
          score === null
            ? null
            : el("span", {}, `score ${score.toFixed(3)}${gap ? ` (${signed(score - beside[at], 3)})` : ""}`),
          el("span", {}, found.passages[at]),
        ),
        el("p", { class: "passage" }, text ?? "a passage that isn't among the first stage's candidates"),
      );
      if (text && text.length > 160)
        item.append(
          el(
            "button",
            {
              type: "button",
              "aria-expanded": "false",
              onclick: (event) => {
                const whole = item.classList.toggle("whole");
                event.target.textContent = whole ? "less" : "all of it";
                event.target.setAttribute("aria-expanded", whole);
              },
            },
            "all of it",
          ),
        );
      return item;
    });
    return el("div", {}, el("h4", {}, shown(name)), el("ol", {}, ...items));
  }

  // ------------------------------------------------------------------------------------------------------------- the parts

  function drawVerdict() {
    const own = rows[place.get(best)];
    const teacher = report.teacher && report.teacher !== best ? rows[place.get(report.teacher)] : null;
    const figures = [
      [four(own.measures[main]), `${main} of ${shown(best)}`],
      [four(first.measures[main]), `of ${first.name}`],
    ];
    if (teacher) {
      figures.push([four(teacher.measures[main]), `of ${teacher.name}`]);
      if (teacher.measures[main])
        figures.push([`${((100 * own.measures[main]) / teacher.measures[main]).toFixed(1)} %`, "of the teacher's"]);
      if (teacher.speed[time] && own.speed[time])
        figures.push([`${(teacher.speed[time] / own.speed[time]).toFixed(2)}×`, "the teacher's speed"]);
    }
    byId("figures").append(...figures.map(([value, what]) => el("div", {}, el("b", {}, value), el("span", {}, what))));
    const told = (row) =>
      row.verdict.map((text) => {
        const rest = text.startsWith(`${row.name}: `) ? text.slice(row.name.length + 2) : text;
        const alarm = /^[A-Z][A-Z-]+ /.test(rest);
        return el(
          "p",
          { class: alarm ? "verdict alarm" : "verdict" },
          ...(rest === text ? [] : [el("b", {}, row.name), ": "]),
          rest,
        );
      });
    byId("verdict-best").append(...told(own));
    const others = rows.filter((row) => row !== own && row.verdict.length);
    const details = byId("verdict-others");
    if (!others.length) return details.remove();
    details.querySelector("summary").textContent = `Verdicts on ${count(others.length, "other ranker")}`;
    return details.querySelector("div").append(...others.flatMap(told));
  }

  let table = null;
  function drawTable() {
    const columns = columnsOf(data.table);
    columns[0].show = (row) => {
      const role =
        row === 0
          ? "first stage"
          : rows[row].name === report.teacher
            ? "teacher"
            : rows[row].name === report.baseline
              ? "baseline"
              : null;
      const name = el("button", { type: "button", onclick: () => choose(rows[row].name) }, data.table[0].cells[row]);
      return role ? el("span", {}, name, el("span", { class: "role" }, role)) : name;
    };
    table = sortable(byId("table"), {
      label: "Comparison of all rankers",
      columns,
      count: rows.length,
      rowClass: (row) => (rows[row].name === chosen() ? "chosen" : null),
    });
    byId("notes").querySelector("div").append(notes(report.notes));
  }

  function drawHarm() {
    const harm = report.harm;
    if (!harm) return byId("harm").remove();
    const number = new Map(queries.ids.map((id, at) => [id, at]));
    byId("harm").querySelector(".about").textContent =
      `${harm.ranker} against ${first.name}: ` +
      `${count(data.listed.queries, "query got", "queries got")} worse` +
      (harm.queries.length < data.listed.queries ? `, of which this file lists the worst ${harm.queries.length}.` : ".");
    const groups = data.sections["Where it hurts"];
    drawn.add("Where it hurts");
    if (groups) {
      const host = el("div");
      sortable(host, { label: "Groups of queries", columns: columnsOf(groups.columns), count: groups.columns[0].cells.length });
      byId("harm").querySelector(".tables").append(host);
    }
    const query = (found) => ({
      header: "Query",
      text: true,
      long: true,
      value: (row) => found[row].query,
      show: (row) => opener(number.get(found[row].query_id)),
    });
    if (harm.queries.length) {
      const host = el("div");
      byId("harmed").append(el("h3", {}, "Queries that got worse"), host);
      const change = (row) => harm.queries[row].after - harm.queries[row].before;
      sortable(host, {
        label: "Queries that got worse",
        count: harm.queries.length,
        page: 8,
        columns: [
          query(harm.queries),
          { header: "Change", value: change, show: (row) => signed(change(row)) },
          {
            header: "Answer's place",
            value: (row) => harm.queries[row].places[1],
            show: (row) => harm.queries[row].places.join(" → "),
          },
          {
            header: "Answer",
            text: true,
            long: true,
            value: (row) => harm.queries[row].answer,
            show: (row) => short(harm.queries[row].answer),
          },
          {
            header: "Now first",
            text: true,
            long: true,
            value: (row) => harm.queries[row].raised,
            show: (row) => short(harm.queries[row].raised),
          },
        ],
      });
    }
    if (harm.suspects && harm.suspects.length) {
      const host = el("div");
      byId("suspects").append(
        el("h3", {}, "Answers that judgments may have missed"),
        el(
          "p",
          { class: "quiet" },
          "Teacher and ranker put the same passage first, and it isn't judged relevant" +
            (harm.suspects.length < data.listed.suspects ? ` (${harm.suspects.length} of ${data.listed.suspects}).` : "."),
        ),
        host,
      );
      sortable(host, {
        label: "Answers that judgments may have missed",
        count: harm.suspects.length,
        page: 8,
        columns: [
          query(harm.suspects),
          {
            header: "Judged",
            text: true,
            value: (row) => (harm.suspects[row].judged ? "yes" : "no"),
            show: (row) => (harm.suspects[row].judged ? "yes" : "no"),
          },
          {
            header: "Passage",
            text: true,
            long: true,
            value: (row) => harm.suspects[row].passage,
            show: (row) => short(harm.suspects[row].passage),
          },
        ],
      });
    }
  }

  function short(text) {
    return text.length > 180 ? `${text.slice(0, 180)}...` : text;
  }

  function drawSources() {
    byId("sources")
      .querySelector("ul")
      .append(
        ...rows.map((row) =>
          el(
            "li",
            {},
            `${row.name}: `,
            ...row.sources.flatMap((source, number) => [number ? ", " : "", el("code", {}, source)]),
          ),
        ),
      );
  }

  byId("origin").textContent =
    `Written ${report.written}, commit ${report.origin.commit}, on ${report.origin.device}, ${report.origin.threads} threads.`;
  drawVerdict();
  drawQueries();
  drawTable();
  drawFrontier();
  drawDepths();
  drawReliability();
  drawHarm();
  for (const title of Object.keys(data.sections)) if (!drawn.has(title)) section(byId("more-tables"), title, title);
  drawSources();

  // ----------------------------------------------------------------------------------------------------- colours and paper

  const again = () => plots.forEach((one) => one.draw());
  function paint(theme) {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    again();
  }
  byId("theme").addEventListener("change", () => paint(byId("theme").value));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((one) => (one.open = true));
    paint("light");
    printing = true; // the window's width is no measure of the paper's
    for (const { chart } of plots) {
      chart.getDom().style.height = `${chart.getHeight()}px`;
      chart.resize({ width: Math.min(680, chart.getWidth()) });
      chart.getZr().flush(); // no frame comes before the paper does
    }
  });
  addEventListener("afterprint", () => {
    folded.forEach((one) => (one.open = false));
    paint(byId("theme").value);
    printing = false;
    for (const { chart } of plots) {
      chart.getDom().style.height = "";
      chart.resize({ width: "auto" });
    }
  });
})();
