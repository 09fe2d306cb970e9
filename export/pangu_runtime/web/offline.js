// Keeps every file of this page, so that it works without a network. The version changes with any of them.
// An origin's pages share its caches: those of this page have its scope in their names.
const OURS = `pangu-cv ${self.registration.scope} `, CACHE = `${OURS}@VERSION@`, FILES = @FILES@;

self.addEventListener("install", (event) => {
  // Past the browser's own cache, which may still hold files of the version before.
  const fresh = FILES.map((file) => new Request(file, { cache: "reload" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(fresh)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const old = (name) => name.startsWith(OURS) && name !== CACHE;
  event.waitUntil(caches.keys().then((names) => Promise.all(names.filter(old).map((name) => caches.delete(name)))));
  self.clients.claim();
});

self.addEventListener("fetch", (event) => {
  const found = caches.open(CACHE).then((cache) => cache.match(event.request, { ignoreSearch: true }));
  event.respondWith(found.then((kept) => kept ?? fetch(event.request)));
});
