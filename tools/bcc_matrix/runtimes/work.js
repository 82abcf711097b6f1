// Allocates until garbage is collected, over and over.
function inner(n) { return Array.from({ length: n }, () => ({ n })) }
console.log("ready")
setInterval(() => { for (let i = 0; i < 50; i++) inner(1000) }, 100)
