// What the page's address says: ?server=…&token=…&delays=3,6,12 (seconds; without it the snippet's own).
export function asked() {
  const query = new URLSearchParams(location.search);
  return [query.get("server"), query.get("token"), query.get("delays")?.split(",").map(Number)];
}
