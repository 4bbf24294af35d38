// The last question goes to the top as its answer grows, until the reader scrolls by hand.
let asked = 0;
let follows = true;
const leave = () => { follows = false; };
element.addEventListener('wheel', leave, { passive: true });
element.addEventListener('touchmove', leave, { passive: true });
element.addEventListener('keydown', leave);
watch('value', () => {
  const log = element.querySelector('.log');
  const questions = element.querySelectorAll('.asked');
  if (!log || !questions.length) {
    asked = 0;
    return;
  }
  if (questions.length !== asked) follows = true;
  asked = questions.length;
  if (follows) log.scrollTop = questions[asked - 1].offsetTop - log.offsetTop - 12;
});
