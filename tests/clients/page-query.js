// Reads the page's address: ?server=…&token=…&delays=3,6,12 (in seconds; by default those of the example).
export function pageQuery() {
  const query = new URLSearchParams(location.search);
  return [query.get("server"), query.get("token"), query.get("delays")?.split(",").map(Number)];
}
